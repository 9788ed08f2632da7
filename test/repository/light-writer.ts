import { randomBytes } from "node:crypto";

import { Codec, FrameKind, RUN_ID_LENGTH } from "../../src/repository/format/constants.ts";
import { FrameSealer } from "../../src/repository/format/frame.ts";
import { encodeNode, type MapNode } from "../../src/repository/format/node.ts";
import type { Reference } from "../../src/repository/format/reference.ts";
import type { ImageRoot, PointRecord, Repository } from "../../src/repository/index.ts";
import { packAt, pointId } from "../../src/repository/layout.ts";
import { NodeReader } from "../../src/repository/map/node-reader.ts";
import { TreeBuilder } from "../../src/repository/map/tree-builder.ts";
import { BufferPool } from "../../src/repository/write/buffer-pool.ts";
import { PackStream } from "../../src/repository/write/pack-stream.ts";

const MiB = 1024 * 1024;

/** What a granule becomes: data to be stored, or a reference that is only entered in the map. */
export type Entry = readonly [granule: number, content: Buffer | Reference];

/**
 * One run without threads: the packs and the map that a session would leave for these granules, in ascending order.
 * For long histories, where the threads of a hundred sessions would take minutes to start, and for maps of data that is nowhere.
 */
export async function writeLight(
  repository: Repository,
  base: ImageRoot | null,
  disk: { readonly size: number; readonly entries: Iterable<Entry> },
): Promise<ImageRoot> {
  const { store, domain, keys } = repository;
  const runId = randomBytes(RUN_ID_LENGTH);
  const sealer = new FrameSealer(keys);
  let ordinal = 0;
  const stream = (size: number): PackStream =>
    new PackStream({
      runId,
      sealer,
      buffers: new BufferPool(size, 2),
      nextOrdinal: () => ordinal++,
      ship: async ({ id, bytes, done }) => {
        await store.putIfAbsent(packAt(domain, id), bytes);
        done();
      },
    });
  const [data, map] = [stream(30 * MiB), stream(8 * MiB)];
  const append = async (packs: PackStream, kind: FrameKind, text: Buffer): Promise<Reference> => {
    const { codec, hash, stored } = sealer.seal(kind, text, { runId, codec: Codec.none });
    return await packs.append({ kind, codec, hash, stored });
  };
  const write = async (node: MapNode): Promise<Reference> => await append(map, FrameKind.node, encodeNode(node));
  const tree = await TreeBuilder.start(disk.size, base, { nodes: new NodeReader({ store, domain, sealer }), write });
  for (const [granule, content] of disk.entries)
    await tree.set(granule, Buffer.isBuffer(content) ? await append(data, FrameKind.granule, content) : content);
  const root = await tree.finish();
  await data.finish();
  await map.finish();
  return { size: disk.size, root };
}

/** Commits a point of the VM `vm` whose only disk is the image, as `vda`. */
export async function commitLight(repository: Repository, image: ImageRoot): Promise<PointRecord> {
  const { vmId, nextSeq: seq } = await repository.catalog.lineage("vm", { depth: 1 });
  const stats = { dirtyBytes: 0, zeroBytes: 0, readBytes: 0, newBytes: 0, uploadedBytes: 0, mapBytes: 0 };
  const disk = { name: "vda", ...image, level: "full", reason: "", base: null, checkpoint: null, imageInfo: null, stats } as const;
  const point: PointRecord = {
    id: pointId(vmId, seq),
    seq,
    time: new Date(0).toISOString(),
    vm: { name: "vm", uuid: null },
    run: "00".repeat(RUN_ID_LENGTH),
    parent: null,
    level: "full",
    consistency: "offline",
    tool: { name: "test", version: "0" },
    disks: [disk],
    captures: [],
    warnings: [],
  };
  await repository.catalog.commit(vmId, point);
  return point;
}
