import { randomBytes } from "node:crypto";

import { mapConcurrently } from "../../src/lib/concurrency.ts";
import { Codec, FrameKind, HASH_LENGTH, PACK_ID_LENGTH, RUN_ID_LENGTH } from "../../src/repository/format/constants.ts";
import { FrameSealer } from "../../src/repository/format/frame.ts";
import { vmId } from "../../src/repository/format/keys.ts";
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
  const { vmId: id, nextSeq: seq } = await repository.catalog.lineage("vm", { depth: 1 });
  const point = {
    ...lightPoint(id, seq),
    time: new Date(0).toISOString(),
    vm: { name: "vm", uuid: null },
    disks: [lightDisk("vda", image)],
  };
  await repository.catalog.commit(id, point);
  return point;
}

/** Commits hourly points of each of these VMs, with disks and captures whose data is nowhere: a long catalog, and nothing to restore. */
export async function commitHistories(repository: Repository, vms: readonly string[], length: number): Promise<void> {
  const nowhere = { pack: "00".repeat(PACK_ID_LENGTH), offset: 0, length: 4096, codec: Codec.none, hash: randomBytes(HASH_LENGTH) };
  const disks = ["root", "data"].map((name) => lightDisk(name, { size: 64 * 1024 * MiB, root: nowhere }));
  const captures = ["domain.xml", "kubernetes.json", "request.json", "freeze.json", "tool.json"].map((name) => ({
    name,
    size: 5000,
    pieces: [{ ...nowhere, textLength: 5000 }],
  }));
  const places = vms.flatMap((name) => Array.from({ length }, (_, before) => ({ name, seq: before + 1 })));
  await mapConcurrently(places, 32, async ({ name, seq }) => {
    const id = vmId(repository.keys, name);
    const time = new Date(Date.UTC(2026, 0, 1) + seq * 3_600_000).toISOString();
    await repository.catalog.commit(id, { ...lightPoint(id, seq), time, vm: { name, uuid: null }, disks, captures });
  });
  for (const name of vms) await repository.catalog.writeHead(vmId(repository.keys, name), length);
}

function lightDisk(name: string, image: ImageRoot): PointRecord["disks"][number] {
  const stats = { dirtyBytes: 0, zeroBytes: 0, readBytes: 0, newBytes: 0, compactedBytes: 0, uploadedBytes: 0, mapBytes: 0 };
  return { name, ...image, level: "full", reason: "", base: null, checkpoint: null, imageInfo: null, stats, compactedTo: 0 };
}

function lightPoint(vm: string, seq: number): Omit<PointRecord, "time" | "vm" | "disks"> {
  return {
    id: pointId(vm, seq),
    seq,
    run: "00".repeat(RUN_ID_LENGTH),
    parent: null,
    level: "full",
    consistency: "offline",
    tool: { name: "test", version: "0" },
    captures: [],
    warnings: [],
  };
}
