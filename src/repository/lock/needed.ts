import { StoreError } from "../../objectstore/index.ts";
import { PackNumbers } from "../format/pack-numbers.ts";
import {
  CONFIG,
  domainKeyAt,
  domainNameAt,
  HOLDS,
  packAt,
  parsePackKey,
  parsePointId,
  pointAt,
  POINTS,
  ROTATIONS,
  SLOTS,
} from "../layout.ts";
import type { Repository } from "../repository.ts";
import { reach, type Reached } from "../usage/reach.ts";
import { findRoots } from "../usage/roots.ts";

/** What the points that count need to be restored. */
export class Needed {
  /** points that count */
  readonly points: number;
  /** points of which it cannot be said what they need: everything that is stored counts as needed because of them */
  readonly unclear: Reached["unclear"];
  /** whether it is not known which version of the domain's key opens it */
  readonly anyKey: boolean;
  readonly #packs: PackNumbers;
  /** keys of what is no pack */
  readonly #others: ReadonlySet<string>;
  readonly #name: string;

  constructor(
    found: { readonly points: number; readonly unclear: Reached["unclear"]; readonly packs: PackNumbers; readonly anyKey?: boolean },
    others: ReadonlySet<string>,
    domain: string,
  ) {
    this.points = found.points;
    this.unclear = found.unclear;
    this.anyKey = found.anyKey ?? false;
    this.#packs = found.packs;
    this.#others = others;
    this.#name = domainNameAt(domain);
  }

  has(key: string): boolean {
    const pack = parsePackKey(key);
    if (pack !== null) return this.unclear.length > 0 || this.#packs.get(pack) > 0;
    // The domain that a repository begins with may have no name.
    if (key.startsWith(SLOTS) || key.startsWith(ROTATIONS) || key === this.#name) return true;
    return this.#others.has(key.startsWith(HOLDS) ? POINTS + key.slice(HOLDS.length) : key);
  }

  /** Keys of all that must be there. */
  *keys(domain: string): Generator<string, void, undefined> {
    yield* this.#others;
    for (const [pack] of this.#packs.entries()) yield packAt(domain, pack);
  }
}

export interface FindingNeeded {
  readonly at: Date;
  readonly keep: boolean;
  readonly signal: AbortSignal;
  readonly onPoint: (done: number, of: number) => void;
}

/** Of a domain whose key is lost: everything, and whichever version of the key. */
export function allOfLost(domain: string, reason: string): Needed {
  const key = domainKeyAt(domain);
  return new Needed({ points: 0, unclear: [{ id: key, reason }], packs: new PackNumbers(), anyKey: true }, new Set([key]), domain);
}

/** Adds up what points need at a time, by what prune uses for the same. */
export async function findNeeded(repository: Repository, { at, keep, signal, onPoint }: FindingNeeded): Promise<Needed> {
  const { domain, keys } = repository;
  const roots = await findRoots(repository, at, signal);
  const count = roots.machines.reduce((sum, { length }) => sum + length, 0);
  const reached = await reach(repository, roots, { signal, keep, onPoint: (done) => onPoint(done, count) }).catch(explain);
  // A prune beside it may have removed forgotten points since they were listed.
  const unclear: Reached["unclear"][number][] = [];
  for (const one of reached.unclear) if (!(await repository.catalog.wasRemoved(one.id, signal))) unclear.push(one);
  const missing = roots.missing.map((id) => ({ id, reason: "it is missing, and nobody has forgotten it, or it is held" }));
  const others = new Set([CONFIG, ...(keys.encrypted ? [domainKeyAt(domain)] : [])]);
  for (const { vmId, seq } of [...roots.machines.flat(), ...roots.missing.map(parsePointId)]) others.add(pointAt(vmId, seq));
  return new Needed({ points: reached.points, unclear: [...missing, ...unclear], packs: reached.packs.bytes }, others, domain);
}

function explain(thrown: unknown): never {
  if (!(thrown instanceof StoreError) || thrown.code !== "access-denied") throw thrown;
  throw new StoreError("access-denied", thrown.message, {
    cause: thrown,
    hint: "Extending locks needs credentials that may write below usage/ and locks/, which backups do without",
  });
}
