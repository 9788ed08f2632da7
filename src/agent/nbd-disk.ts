import { NbdError, type NbdAddress, NbdPool } from "../nbd/index.ts";
import type { ByteRange, Extent, ReadRequest } from "../repository/index.ts";
import type { Level, SourceDisk } from "./backup-source.ts";

/** What an engine knows of a disk before its export is opened. */
export interface DiskSpec {
  readonly name: string;
  readonly level: Level;
  readonly reason: string;
  readonly base: DiskBase | null;
  readonly checkpoint: string | null;
  readonly imageInfo: unknown;
}

/** What clean extents are the content of, and the meta context that says which are clean. */
export interface DiskBase {
  readonly point: string;
  /** bytes, of the disk then */
  readonly size: number;
  readonly context: string;
}

/** Where and how a disk's export is opened. */
export interface DiskExport {
  readonly address: NbdAddress;
  readonly connections: number;
  readonly signal: AbortSignal;
  /** Makes of a lost connection the error that says why it was lost. */
  readonly explain: (lost: NbdError) => Promise<unknown>;
}

/** A disk of a backup source that is read through an NBD export. */
export class NbdDisk implements SourceDisk {
  readonly name: string;
  readonly size: number;
  readonly level: Level;
  readonly reason: string;
  readonly base: string | null;
  readonly checkpoint: string | null;
  readonly imageInfo: unknown;
  readonly #pool: NbdPool;
  readonly #cleanEnd: number;
  readonly #explain: DiskExport["explain"];

  private constructor(spec: DiskSpec, pool: NbdPool, explain: DiskExport["explain"]) {
    this.name = spec.name;
    this.size = pool.info.size;
    this.level = spec.level;
    this.reason = spec.reason;
    this.base = spec.base?.point ?? null;
    this.checkpoint = spec.checkpoint;
    this.imageInfo = spec.imageInfo;
    this.#pool = pool;
    this.#cleanEnd = spec.base?.size ?? 0;
    this.#explain = explain;
  }

  static async open(spec: DiskSpec, at: DiskExport): Promise<NbdDisk> {
    const status = { bitmap: spec.base?.context ?? null };
    const pool = await NbdPool.open(at.address, { status, connections: at.connections, signal: at.signal });
    return new NbdDisk(fitting(spec, pool.info.size), pool, at.explain);
  }

  async *extents(signal: AbortSignal, range?: ByteRange): AsyncGenerator<Extent, void, undefined> {
    try {
      yield* this.#pool.extents({ ...(range === undefined ? {} : { range }), signal, cleanEnd: this.#cleanEnd });
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async read(requests: readonly ReadRequest[], signal: AbortSignal): Promise<void> {
    try {
      await this.#pool.read(requests, signal);
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async #explained(error: unknown): Promise<unknown> {
    const lost = error instanceof NbdError && ["disconnected", "closed", "connect-failed"].includes(error.code);
    return lost ? this.#explain(error) : error;
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}

// A bitmap says nothing about what a shrunken disk lost and may have got back since.
function fitting(spec: DiskSpec, size: number): DiskSpec {
  if (spec.base === null || spec.base.size <= size) return spec;
  const reason = `the disk is smaller than at its last point (${size} of ${spec.base.size} bytes)`;
  return { ...spec, level: "full", reason, base: null };
}
