import { crc32Of } from "../../lib/crc32.ts";
import type { ObjectStore } from "../../objectstore/index.ts";
import { RepositoryError } from "../errors.ts";
import { packAt } from "../layout.ts";
import { PackSums } from "../sums.ts";
import type { FinishedPack } from "./pack-stream.ts";

export interface ShipperOptions {
  readonly store: ObjectStore;
  readonly domain: string;
  /** packs on their way at a time */
  readonly parallel: number;
  readonly signal: AbortSignal;
  readonly onShipped: (bytes: number) => void;
}

/** Puts finished packs into the store, a few at a time, and reads the end of each back before it counts as stored. */
export class Shipper {
  readonly #options: ShipperOptions;
  readonly #flying = new Set<Promise<void>>();
  /** what was sent and read back so far */
  readonly sums = new PackSums();
  #failure: { readonly reason: unknown } | null = null;

  constructor(options: ShipperOptions) {
    this.#options = options;
  }

  /** Resolves when the pack is on its way, which may wait for one of the earlier ones. Rejects with the first failure of any. */
  async ship(pack: FinishedPack): Promise<void> {
    while (this.#flying.size >= this.#options.parallel) await Promise.race(this.#flying);
    if (this.#failure !== null) {
      // Others may wait for its memory; they must come to their own failure.
      pack.done();
      throw this.#failure.reason;
    }
    const flight = this.#put(pack)
      .catch((reason: unknown) => {
        this.#failure ??= { reason };
      })
      .finally(() => {
        this.#flying.delete(flight);
        pack.done();
      });
    this.#flying.add(flight);
  }

  /** Waits until all are stored. */
  async settle(): Promise<void> {
    await this.drain();
    this.#throwFailure();
  }

  /** Waits until nothing is on its way, however it ends. */
  async drain(): Promise<void> {
    await Promise.all(this.#flying);
  }

  async #put(pack: FinishedPack): Promise<void> {
    const { store, domain, signal, onShipped } = this.#options;
    const key = packAt(domain, pack.id);
    const crc32 = await crc32Of(pack.bytes);
    await store.putIfAbsent(key, pack.bytes, { signal, crc32 });
    const tail = Buffer.allocUnsafe(pack.tailLength);
    const offset = pack.bytes.length - pack.tailLength;
    await store.read(key, offset, tail, { signal });
    if (!tail.equals(pack.bytes.subarray(offset))) {
      throw new RepositoryError("read-back-failed", `${store.url} did not give back what was put into it: ${key}`, {
        hint: "The store is not to be trusted with backups; check its disks",
      });
    }
    this.sums.add(pack.id, pack.bytes.length, crc32);
    onShipped(pack.bytes.length);
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.reason;
  }
}
