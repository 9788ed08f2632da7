import { StoreError } from "../objectstore/index.ts";
import { DocumentKind } from "./format/constants.ts";
import { type DamageRecord, decodeDamage, encodeDamage } from "./format/damage.ts";
import { sealDocument } from "./format/document.ts";
import type { Reference } from "./format/reference.ts";
import { type HintPlace, readHint, sealOf } from "./hint-document.ts";
import { damageAt } from "./layout.ts";
import type { Repository } from "./repository.ts";

/**
 * What the last check found damaged, as backups heed it: a disk whose newest point needs some of it is read whole, and what is lost of it is
 * stored again. Only a hint: without it the next backup stands on what is damaged, and the next check says so again.
 */
export class KnownDamage {
  readonly #record: DamageRecord | null;

  constructor(record: DamageRecord | null) {
    this.#record = record;
  }

  get isEmpty(): boolean {
    return this.#record === null;
  }

  /** Whether a machine's newest point needs something damaged on this disk. */
  touches(newest: string | null, disk: string): boolean {
    const disks = newest === null ? undefined : this.#record?.points.get(newest);
    return disks === null || disks?.has(disk) === true;
  }

  /** This and more; of points only those in `newest` are kept, for to backups no others matter. */
  with({ packs, points }: DamageRecord, newest: ReadonlySet<string>): DamageRecord {
    const before = this.#record ?? { packs: new Map<string, ReadonlySet<number> | null>(), points: new Map<string, null>() };
    return {
      packs: before.packs === null || packs === null ? null : united(before.packs, packs),
      points: united(new Map([...before.points].filter(([point]) => newest.has(point))), points),
    };
  }

  /** Whether what a reference leads to may be damaged. */
  has({ pack, offset }: Pick<Reference, "pack" | "offset">): boolean {
    if (this.#record === null) return false;
    if (this.#record.packs === null) return true;
    const offsets = this.#record.packs.get(pack);
    return offsets === null || offsets?.has(offset) === true;
  }
}

export async function readDamage(repository: Repository, signal: AbortSignal): Promise<KnownDamage> {
  return new KnownDamage(await readHint(repository, placeOf(repository), { decode: decodeDamage, signal }));
}

/** Writes down what a check found. Resolves with whether that could be done: who checks may have no right to write. */
export async function noteDamage(repository: Repository, record: DamageRecord, signal: AbortSignal): Promise<boolean> {
  try {
    const place = placeOf(repository);
    await repository.store.put(place.at, sealDocument(encodeDamage(record), sealOf(repository, place)), { signal });
    return true;
  } catch (thrown) {
    if (thrown instanceof StoreError && (thrown.code === "access-denied" || thrown.code === "no-space")) return false;
    throw thrown;
  }
}

/** Sets by name, each with what both have; null is all. */
function united<T>(
  a: ReadonlyMap<string, ReadonlySet<T> | null>,
  b: ReadonlyMap<string, ReadonlySet<T> | null>,
): Map<string, ReadonlySet<T> | null> {
  const all = new Map(a);
  for (const [name, more] of b) {
    const known = all.get(name);
    all.set(name, known === null || more === null ? null : new Set([...(known ?? []), ...more]));
  }
  return all;
}

function placeOf({ domain }: Repository): HintPlace {
  return { at: damageAt(domain), kind: DocumentKind.damage };
}
