import { FrameSealer } from "../../src/repository/format/frame.ts";
import type { Repository } from "../../src/repository/index.ts";
import { ImageMap } from "../../src/repository/map/image-map.ts";
import { NodeReader } from "../../src/repository/map/node-reader.ts";

/** Packs that the points that are listed refer to, found by walking all of their maps. */
export async function packsNeeded({ store, domain, keys, catalog }: Repository): Promise<Set<string>> {
  const packs = new Set<string>();
  for (const { disks, captures } of (await catalog.list()).points) {
    for (const { pieces } of captures) for (const { pack } of pieces) packs.add(pack);
    for (const disk of disks) {
      const map = new ImageMap(new NodeReader({ store, domain, sealer: new FrameSealer(keys) }), disk);
      for await (const { pack } of map.nodes()) packs.add(pack);
      for await (const { reference } of map.granules()) packs.add(reference.pack);
    }
  }
  return packs;
}
