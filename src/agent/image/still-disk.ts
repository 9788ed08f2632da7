import { stat } from "node:fs/promises";
import type { ByteRange, Extent, ReadRequest } from "../../repository/index.ts";
import type { Level, SourceDisk } from "../backup-source.ts";
import { SourceError } from "../errors.ts";

/** Regular files that must stay as they are while they are read: what is written to meanwhile has no one instant. */
export class StillFiles {
  readonly #stamps: ReadonlyMap<string, string>;

  private constructor(stamps: ReadonlyMap<string, string>) {
    this.#stamps = stamps;
  }

  /** Devices keep no time of their last write, so there is nothing to see of them here. */
  static async watch(paths: readonly string[]): Promise<StillFiles> {
    const stamps = await Promise.all(paths.map(async (path) => [path, await stampOf(path)] as const));
    return new StillFiles(new Map(stamps));
  }

  /** The first that changed; null when none did. */
  async changed(): Promise<string | null> {
    for (const [path, stamp] of this.#stamps) if ((await stampOf(path)) !== stamp) return path;
    return null;
  }

  /** Rejects `image-changed`. */
  async requireStill(): Promise<void> {
    const changed = await this.changed();
    if (changed === null) return;
    const hint = "stop what writes to it, or back up the running machine through libvirt (--connect and --domain)";
    throw new SourceError("image-changed", `the image ${changed} was written to while it was read`, { hint });
  }
}

async function stampOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => null);
  if (found === null) return "gone";
  return found.isFile() ? `${found.size} bytes of ${found.mtimeNs}` : "device";
}

/** A disk whose image nobody may write to. Where somebody did nevertheless, its extents end with `image-changed`. */
export class StillDisk implements SourceDisk {
  readonly name: string;
  readonly size: number;
  readonly level: Level;
  readonly reason: string;
  readonly base: string | null;
  readonly checkpoint: string | null;
  readonly imageInfo: unknown;
  readonly #disk: SourceDisk;
  readonly #files: StillFiles;

  constructor(disk: SourceDisk, files: StillFiles) {
    this.name = disk.name;
    this.size = disk.size;
    this.level = disk.level;
    this.reason = disk.reason;
    this.base = disk.base;
    this.checkpoint = disk.checkpoint;
    this.imageInfo = disk.imageInfo;
    this.#disk = disk;
    this.#files = files;
  }

  async *extents(signal: AbortSignal, range?: ByteRange): AsyncGenerator<Extent, void, undefined> {
    yield* this.#disk.extents(signal, range);
    await this.#files.requireStill();
  }

  read(requests: readonly ReadRequest[], signal: AbortSignal): Promise<void> {
    return this.#disk.read(requests, signal);
  }
}
