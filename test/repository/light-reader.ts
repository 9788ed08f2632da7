import { FrameKind } from "../../src/repository/format/constants.ts";
import { FrameSealer } from "../../src/repository/format/frame.ts";
import { runOfPack } from "../../src/repository/format/pack.ts";
import type { PointRecord, Repository } from "../../src/repository/index.ts";
import { packAt } from "../../src/repository/layout.ts";
import { ImageMap } from "../../src/repository/map/image-map.ts";
import { NodeReader } from "../../src/repository/map/node-reader.ts";

const GRANULE = 65_536;

/**
 * Restores a disk one granule after the other and without threads: a second opinion on what `ImageReader` gives, and quick for small disks.
 * Rejects at the first thing that is not as it was written.
 */
export async function readDisk(repository: Repository, point: PointRecord, name = "vda"): Promise<Buffer> {
  const disk = point.disks.find((one) => one.name === name);
  if (disk === undefined) throw new Error(`the point has no disk ${name}`);
  const { store, domain, keys } = repository;
  const sealer = new FrameSealer(keys);
  const bytes = Buffer.alloc(disk.size);
  for await (const { granule, reference } of new ImageMap(new NodeReader({ store, domain, sealer }), disk).granules()) {
    const stored = Buffer.alloc(reference.length);
    await store.read(packAt(domain, reference.pack), reference.offset, stored);
    const { codec, hash } = reference;
    const text = sealer.open(FrameKind.granule, stored, {
      runId: runOfPack(reference.pack),
      codec,
      hash,
      textLength: GRANULE,
    });
    Buffer.from(text).copy(bytes, granule * GRANULE);
  }
  return bytes;
}
