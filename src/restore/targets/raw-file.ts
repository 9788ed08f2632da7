import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

import { Semaphore } from "../../lib/semaphore.ts";
import { RestoreError, targetError } from "../errors.ts";
import type { RestoreTarget } from "../target.ts";

/** A new raw file, sparse where the image is zero; under its name only when it is complete. Rejects `target-exists`. */
export async function newRawFile(path: string, size: number): Promise<RestoreTarget> {
  await requireAbsent(path);
  const partial = `${path}.partial`;
  const file = await guarded(path, async () => await open(partial, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600));
  await guarded(path, async () => await file.truncate(size));
  const target = new RawTarget(path, file, { blank: true, parallelWrites: 1, rename: { from: partial, to: path } });
  return target;
}

/** A file that is there, e.g. the `disk.img` of a file-system PVC: keeps its name, owner and, when it is larger, its size. Rejects `target-too-small`. @param flags of open besides */
export async function existingRawFile(path: string, size: number, flags: number = 0): Promise<RestoreTarget> {
  const file = await guarded(path, async () => await open(path, constants.O_RDWR | flags));
  const { size: has } = await file.stat();
  if (has < size) {
    await file.close();
    throw tooSmall(path, has, size);
  }
  await guarded(path, async () => {
    await file.truncate(0);
    await file.truncate(has);
  });
  return new RawTarget(path, file, { blank: true, parallelWrites: 1, rename: null });
}

export async function requireAbsent(path: string): Promise<void> {
  const found = await open(path, constants.O_RDONLY).catch(() => null);
  if (found === null) return;
  await found.close();
  throw new RestoreError("target-exists", `${path} exists already`, { hint: "Restore into another directory, or remove it first" });
}

export function tooSmall(path: string, has: number, needs: number): RestoreError {
  return new RestoreError("target-too-small", `${path} has ${has} bytes, the disk needs ${needs}`);
}

export async function guarded<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw targetError(thrown, path);
  }
}

/** Makes sure that a file's content, or a directory's names, outlast a power cut. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export interface RawTargetOptions {
  readonly blank: boolean;
  /** Writes under way at a time. Into a file the kernel lets one after the other, and those that wait keep a processor busy. */
  readonly parallelWrites: number;
  readonly rename: { readonly from: string; readonly to: string } | null;
}

/** File systems keep holes of this size. */
const PAGE = 4096;
const ZEROS = Buffer.alloc(1024 * 1024);

/** Writes at offsets of an open file or device. */
export class RawTarget implements RestoreTarget {
  readonly path: string;
  readonly blank: boolean;
  readonly grain: number = PAGE;
  readonly #file: FileHandle;
  readonly #rename: RawTargetOptions["rename"];
  readonly #turns: Semaphore;
  #open = true;

  constructor(path: string, file: FileHandle, options: RawTargetOptions) {
    this.path = path;
    this.blank = options.blank;
    this.#file = file;
    this.#rename = options.rename;
    this.#turns = new Semaphore(options.parallelWrites);
  }

  async write(offset: number, bytes: Buffer): Promise<void> {
    await this.#turns.run(() => guarded(this.path, () => this.#writeAll(offset, bytes)));
  }

  async #writeAll(offset: number, bytes: Buffer): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROS.length)
      await this.write(offset + done, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)));
  }

  async finish(): Promise<void> {
    await guarded(this.path, async () => await this.#file.sync());
    await this.#close();
    if (this.#rename === null) return;
    await guarded(this.path, async () => await rename(this.#rename?.from ?? "", this.path));
    await syncPath(dirname(this.path));
  }

  async discard(): Promise<void> {
    await this.#close();
    if (this.#rename !== null) await rm(this.#rename.from, { force: true });
  }

  async #close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#file.close();
  }
}
