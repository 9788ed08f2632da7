import { randomBytes } from "node:crypto";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import type { ObjectStore } from "../../src/objectstore/index.ts";
import {
  BackupSession,
  Codec,
  ImageReader,
  type ImageTarget,
  imageOf,
  type PointRecord,
  Repository,
  type SimilarImage,
} from "../../src/repository/index.ts";
import { MemoryDisk } from "./memory-disk.ts";

export const KEY: Buffer = Buffer.alloc(32, 7);
/** What opens the golden repository whose key was replaced; `KEY` did before. */
export const GOLDEN_NEW: Buffer = Buffer.alloc(32, 17);
export const GOLDEN_FILE: Buffer = Buffer.alloc(32, 18);
export const GOLDEN_WORDS = "golden words for the safe";
const never = new AbortController().signal;

export async function newRepository(store: ObjectStore = new MemoryObjectStore(), key: Buffer | null = KEY): Promise<Repository> {
  return await Repository.init({ store, key });
}

export interface TakeOptions {
  readonly vm?: string;
  readonly codec?: Codec;
  readonly signal?: AbortSignal;
  readonly captures?: Readonly<Record<string, Buffer>>;
  /** images of other machines that a new one is compared with */
  readonly similar?: readonly SimilarImage[];
}

/** Backs disks up as the use case does: incremental to the newest point where the disk tracks changes. */
export async function take(repository: Repository, disks: readonly MemoryDisk[], options: TakeOptions = {}): Promise<PointRecord> {
  const vm = { name: options.vm ?? "vm", uuid: null };
  const signal = options.signal ?? never;
  const lineage = await repository.catalog.lineage(vm.name, { depth: 1, signal });
  const parent = lineage.points[0] ?? null;
  const session = new BackupSession(repository, { vm, codec: options.codec ?? Codec.lz4, signal, lineage });
  try {
    await Promise.all(
      disks.map(async (disk) => {
        const last = imageOf(parent, disk.name);
        const base = disk.trackChanges ? parent : null;
        await session.writeDisk(disk, {
          level: base === null ? "full" : "incremental",
          reason: "",
          base,
          checkpoint: null,
          imageInfo: null,
          similar: last === null ? (options.similar ?? []) : [last],
        });
      }),
    );
    for (const [name, bytes] of Object.entries(options.captures ?? {})) await session.addCapture(name, bytes);
    const point = await session.commit({ level: "full", consistency: "offline", warnings: [], tool: { name: "test", version: "0" } });
    await repository.catalog.writeHead(lineage.vmId, point.seq);
    return point;
  } finally {
    await session.close();
  }
}

export interface Twice {
  readonly disk: MemoryDisk;
  readonly first: PointRecord;
  readonly second: PointRecord;
}

/** Two points of a machine: 512 KiB, and then all of that but the last granule written anew. */
export async function takeTwice(repository: Repository): Promise<Twice> {
  const disk = new MemoryDisk("vda", 1024 * 1024);
  disk.write(0, randomBytes(512 * 1024));
  const first = await take(repository, [disk]);
  disk.checkpoint();
  disk.write(0, randomBytes(448 * 1024));
  return { disk, first, second: await take(repository, [disk]) };
}

/** A target in memory, filled with rubbish when it is not blank. */
export class MemoryTarget implements ImageTarget {
  readonly blank: boolean;
  readonly bytes: Buffer;

  constructor(size: number, blank = true) {
    this.blank = blank;
    this.bytes = Buffer.alloc(size, blank ? 0 : 0xee);
  }

  async write(offset: number, bytes: Buffer): Promise<void> {
    bytes.copy(this.bytes, offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.bytes.fill(0, offset, offset + length);
  }
}

export async function restore(repository: Repository, point: PointRecord, disk: string, blank = true): Promise<Buffer> {
  const image = imageOf(point, disk);
  if (image === null) throw new Error(`the point has no disk ${disk}`);
  const target = new MemoryTarget(image.size, blank);
  const reader = new ImageReader(repository);
  try {
    await reader.copy(image, target, { signal: never });
  } finally {
    await reader.close();
  }
  return target.bytes;
}
