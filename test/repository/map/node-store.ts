import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { Codec, FrameKind, RUN_ID_LENGTH } from "../../../src/repository/format/constants.ts";
import { FrameSealer } from "../../../src/repository/format/frame.ts";
import { domainKeys } from "../../../src/repository/format/keys.ts";
import { encodeNode, type MapNode } from "../../../src/repository/format/node.ts";
import { packId } from "../../../src/repository/format/pack.ts";
import type { Reference } from "../../../src/repository/format/reference.ts";
import { packAt } from "../../../src/repository/layout.ts";
import { ImageMap, type ImageRoot } from "../../../src/repository/map/image-map.ts";
import { NodeReader } from "../../../src/repository/map/node-reader.ts";
import { hashOf } from "../arbitraries.ts";

const DOMAIN = "00000000";
const RUN = Buffer.alloc(RUN_ID_LENGTH, 5);

/** Map nodes, really sealed and really stored, each in a pack of its own; counts what is written. */
export class NodeStore {
  readonly store: MemoryObjectStore = new MemoryObjectStore();
  written = 0;
  bytes = 0;
  readonly #sealer = new FrameSealer(domainKeys(Buffer.alloc(32, 9), Buffer.alloc(16), true));

  /** A reader with nothing in its cache. */
  reader(): NodeReader {
    return new NodeReader({ store: this.store, domain: DOMAIN, sealer: this.#sealer });
  }

  map(image: ImageRoot): ImageMap {
    return new ImageMap(this.reader(), image);
  }

  readonly write = async (node: MapNode): Promise<Reference> => {
    const { hash, codec, stored } = this.#sealer.seal(FrameKind.node, encodeNode(node), { runId: RUN, codec: Codec.none });
    const bytes = Buffer.concat(stored);
    const pack = packId(RUN, this.written++);
    this.bytes += bytes.length;
    await this.store.putIfAbsent(packAt(DOMAIN, pack), bytes);
    return { pack, offset: 0, length: bytes.length, codec, hash };
  };
}

/** A reference to a granule that is nowhere: maps do not look at what they refer to. */
export function granuleAt(value: number): Reference {
  const pack = hashOf(`pack ${value >> 9}`).toString("hex", 0, 16);
  return { pack, offset: 32 + (value & 511) * 65_552, length: 65_552, codec: Codec.none, hash: hashOf(value) };
}

export async function granulesOf(map: ImageMap): Promise<Map<number, Reference>> {
  const all = new Map<number, Reference>();
  for await (const { granule, reference } of map.granules()) all.set(granule, reference);
  return all;
}
