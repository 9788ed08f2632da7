import { availableParallelism } from "node:os";

import type { Logger } from "../lib/logger.ts";
import { type Codec, ImageReader, type PointRecord, type Repository, SessionMemory } from "../repository/index.ts";
import type { MachinePlan, Wanted } from "./plan-copy.ts";

/** Packs in memory: one on its way and one that is filled. */
const PACKS = 2;
/** To read, and as many to write. */
const THREADS = Math.max(1, availableParallelism() >> 1);

export interface CopyRequest {
  readonly from: Repository;
  readonly to: Repository;
  readonly wanted: Wanted;
  /** of data that is new to the target */
  readonly codec: Codec;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly onStep?: (step: CopyStep) => void | Promise<void>;
  readonly onProgress?: (progress: CopyProgress) => void;
}

/** The steps of each point, in order; a copy may be killed at each of them. */
export type CopyStep = "opened" | "disks-written" | "packs-stored" | "committed" | "head-written";

/** All in bytes, of all points together. */
export interface CopyProgress {
  readonly totalBytes: number;
  readonly doneBytes: number;
  /** of that, what was read, as it is on the disk */
  readonly readBytes: number;
}

/** What every point of a copy goes by. */
export interface CopyWork {
  readonly request: CopyRequest;
  readonly reader: ImageReader;
  readonly memory: CopyMemory;
  readonly progress: Progress;
}

/** A copy is a backup and a restore at once, and is to need no more memory than one of them: it waits for the slower of two stores anyway. */
export function readerFor(from: Repository): ImageReader {
  return new ImageReader(from, { windows: 4, slots: 4, threads: THREADS });
}

/** What points are written in, one after the other. */
export class CopyMemory {
  readonly #to: Repository;
  #memory: SessionMemory | null = null;

  constructor(to: Repository) {
    this.#to = to;
  }

  /** Memory for one point: what the one before had, unless that failed. */
  async lend<T>(work: (memory: SessionMemory) => Promise<T>): Promise<T> {
    const memory = (this.#memory ??= new SessionMemory(this.#to.keys, { packs: PACKS, threads: THREADS }));
    try {
      return await work(memory);
    } catch (thrown) {
      await this.close();
      throw thrown;
    }
  }

  async close(): Promise<void> {
    const memory = this.#memory;
    this.#memory = null;
    await memory?.close();
  }
}

/** How far a copy is, counted in bytes of the points' disks: what need not be read is soon done. */
export class Progress {
  readonly #total: number;
  readonly #tell: (progress: CopyProgress) => void;
  #done = 0;
  #read = 0;

  constructor(machines: readonly MachinePlan[], { onProgress }: CopyRequest) {
    this.#total = machines.flatMap(({ todo }) => todo).reduce((sum, point) => sum + sizeOf(point), 0);
    this.#tell = onProgress ?? ((): void => undefined);
  }

  /** @param position bytes of the point's disks dealt with @param read bytes of it read */
  update(position: number, read: number): void {
    this.#tell({ totalBytes: this.#total, doneBytes: this.#done + position, readBytes: this.#read + read });
  }

  read(bytes: number): void {
    this.#read += bytes;
  }

  finish(point: PointRecord): void {
    this.#done += sizeOf(point);
    this.update(0, 0);
  }
}

function sizeOf({ disks }: PointRecord): number {
  return disks.reduce((sum, { size }) => sum + size, 0);
}
