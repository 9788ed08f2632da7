import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DiskModel, GRANULE } from "./disk-model.ts";
import type { Rng } from "./rng.ts";

const SECTOR = 512;

/** One thing a guest does to a disk, as qemu-io commands. */
export interface GuestAction {
  readonly kind: string;
  readonly commands: readonly string[];
}

/** Makes up what a guest might do. Payloads lie in a directory that QEMU sees. */
export class GuestActions {
  readonly #dir: string;
  readonly #last = new Map<string, number>();
  #payloads = 0;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Makes one up and does it to the model; doing it to the disk is the caller's, in this order. */
  make(rng: Rng, disk: DiskModel): GuestAction {
    const kind = rng.weighted({ aligned: 4, unaligned: 4, overlapping: 3, identical: 2, zero: 2, unmapZero: 2, discard: 2, large: 1 });
    const { offset, length } = this.#range(rng, disk, kind);
    this.#last.set(disk.spec.name, offset);
    const range = `${offset} ${length}`;
    if (kind === "zero" || kind === "unmapZero" || kind === "discard") {
      disk.fill(offset, length, 0);
      // A discard is advice that QEMU does not always take, and nothing tells; zeros before it make the content certain.
      const how = { zero: ["write -z"], unmapZero: ["write -z -u"], discard: ["write -z", "discard"] }[kind];
      return { kind, commands: how.map((command) => `${command} ${range}`) };
    }
    return { kind, commands: [this.#write(rng, disk, { kind, offset, length })] };
  }

  #write(rng: Rng, disk: DiskModel, { kind, offset, length }: { kind: string; offset: number; length: number }): string {
    const range = `${offset} ${length}`;
    if (kind === "identical") return `write -s ${this.#payload(disk.at(offset, length))} ${range}`;
    if (rng.chance(0.4)) {
      const value = rng.int(0, 256);
      disk.fill(offset, length, value);
      return `write -P ${value} ${range}`;
    }
    const bytes = rng.bytes(length);
    disk.write(offset, bytes);
    return `write -s ${this.#payload(bytes)} ${range}`;
  }

  #payload(bytes: Buffer): string {
    // Few names, used again: QEMU has read one long before its turn comes round.
    const path = join(this.#dir, `payload-${this.#payloads++ % 64}`);
    writeFileSync(path, bytes);
    return path;
  }

  #range(rng: Rng, disk: DiskModel, kind: string): { readonly offset: number; readonly length: number } {
    const sectors = Math.floor(disk.size / SECTOR);
    const granules = Math.floor(disk.size / GRANULE);
    // What is thrown away is whole clusters: of anything else QEMU may keep the old content.
    if (kind === "discard" || kind === "aligned") return wholes(rng, granules, GRANULE, rng.chance(0.8) ? 4 : 16);
    if (kind === "large") return wholes(rng, granules, GRANULE, 64);
    if (kind === "overlapping") {
      const near = Math.floor((this.#last.get(disk.spec.name) ?? 0) / SECTOR) + rng.int(-96, 96);
      const first = Math.max(0, Math.min(near, sectors - 1));
      return { offset: first * SECTOR, length: rng.int(1, Math.min(257, sectors - first + 1)) * SECTOR };
    }
    return wholes(rng, sectors, SECTOR, rng.chance(0.7) ? 64 : 600);
  }
}

function wholes(rng: Rng, units: number, unit: number, atMost: number): { readonly offset: number; readonly length: number } {
  const first = rng.int(0, units);
  return { offset: first * unit, length: rng.int(1, Math.min(atMost, units - first) + 1) * unit };
}
