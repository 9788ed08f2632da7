import { mapConcurrently } from "../lib/concurrency.ts";
import { type ObjectStore, StoreError } from "../objectstore/index.ts";
import { RepositoryError } from "./errors.ts";
import { Holds } from "./holds.ts";
import { DocumentKind } from "./format/constants.ts";
import { type DocumentSeal, openDocument, sealDocument } from "./format/document.ts";
import { damaged, FormatError } from "./format/errors.ts";
import { asCount, parseObject } from "./format/json.ts";
import { type DomainKeys, vmId } from "./format/keys.ts";
import { decodePoint, encodePoint, type PointRecord } from "./format/point.ts";
import { FORGOTTEN, forgottenAt, headAt, HEADS, parsePointId, parsePointKey, pointAt, pointId, POINTS, unknownPoint } from "./layout.ts";

const PARALLEL_READS = 32;
/** Points read before they are handed on. */
const PAGE = 256;
/** How far back a backup looks for a point to stand on when the newest ones are forgotten. */
const LOOK_BACK = 64;

/** A point that cannot be read, as a listing reports it. */
export interface UnreadablePoint {
  readonly id: string;
  readonly error: Error;
}

/** @typeParam T what a listing keeps of a point */
export interface CatalogListing<T = PointRecord> {
  /** oldest first */
  readonly points: readonly T[];
  readonly unreadable: readonly UnreadablePoint[];
  /** ids of points that are held; also such as are forgotten */
  readonly held: ReadonlySet<string>;
  /** ids of points that are forgotten; they are among `points` on request only */
  readonly forgotten: ReadonlySet<string>;
}

export interface ListingOptions {
  readonly vm?: string;
  /** whether points that are forgotten, and still there, are listed too */
  readonly withForgotten?: boolean;
  readonly signal?: AbortSignal;
}

/** The newest state of a VM in the repository, and where the next point goes. */
export interface Lineage {
  /** Before it was looked up, by the store's clock: the age of a run that stands on it counts from here (FORMAT.md §11). */
  readonly asOf: Date;
  readonly vmId: string;
  /** unforgotten points, newest first; at most as many as the caller asked for */
  readonly points: readonly PointRecord[];
  readonly nextSeq: number;
}

/** What lies at the place of a point: damage keeps its number taken, and is nothing to stand on. */
type Probe = PointRecord | "damaged" | null;
/** The same, where a place that prune has emptied is told from one that was never taken: a number is never used twice. */
type Taken = Probe | "removed";

/** The restore points of one domain, FORMAT.md §8 and §9. */
export class Catalog {
  readonly #store: ObjectStore;
  readonly #keys: DomainKeys;
  readonly #holds: Holds;

  constructor(store: ObjectStore, keys: DomainKeys) {
    this.#store = store;
    this.#keys = keys;
    this.#holds = new Holds(store);
  }

  /** All points, or those of one VM; on request forgotten ones too. Costs one list per kind and one read per point. */
  async list(options: ListingOptions = {}): Promise<CatalogListing> {
    return await this.digests(options, (point) => point);
  }

  /** The same, of which no more is kept than what `digest` makes of each point: ten thousand points with all they say take 100 MiB. */
  async digests<T>(options: ListingOptions, digest: (point: PointRecord, held: boolean) => T): Promise<CatalogListing<T>> {
    const [points, unreadable]: [Digested<T>[], UnreadablePoint[]] = [[], []];
    let marks: Pick<CatalogListing, "held" | "forgotten"> = { held: new Set(), forgotten: new Set() };
    for await (const { points: some, unreadable: lost, ...told } of this.pages(options)) {
      for (const point of some)
        points.push({ seq: point.seq, time: point.time, vm: point.vm.name, digest: digest(point, told.held.has(point.id)) });
      unreadable.push(...lost);
      marks = told;
    }
    return { ...marks, unreadable, points: oldestFirst(points).map((one) => one.digest) };
  }

  /** The same a few hundred at a time as they are read, machine by machine and each machine's oldest first. There is one page at least, and each tells of all holds. */
  async *pages(options: ListingOptions = {}): AsyncGenerator<CatalogListing, void, undefined> {
    const machine = options.vm === undefined ? {} : { vmId: vmId(this.#keys, options.vm) };
    const suffix = machine.vmId === undefined ? "" : `${machine.vmId}/`;
    const forgotten = new Set<string>();
    for await (const { key } of this.#store.list(FORGOTTEN + suffix, options)) forgotten.add(idAt(key));
    const held = await this.#holds.list({ ...machine, ...options });
    const keys: string[] = [];
    for await (const { key } of this.#store.list(POINTS + suffix, options))
      if (options.withForgotten === true || !forgotten.has(idAt(key))) keys.push(key);
    for (let at = 0; at === 0 || at < keys.length; at += PAGE) {
      const page = keys.slice(at, at + PAGE);
      const read = await mapConcurrently(page, PARALLEL_READS, async (key) => await this.#tryRead(key, options.signal));
      yield { points: read.filter((one) => "seq" in one), unreadable: read.filter((one) => "error" in one), held, forgotten };
    }
  }

  /** Ids of points that were committed, not forgotten, and are no longer there: a number is never left out, and a point is never removed before it was forgotten. */
  async missing(signal: AbortSignal): Promise<string[]> {
    // The heads first: what is committed meanwhile is then in the list and not in them.
    const last = new Map(await this.heads(signal));
    const there = new Map<string, Set<number>>();
    for (const prefix of [POINTS, FORGOTTEN]) {
      for await (const { key } of this.#store.list(prefix, { signal })) {
        const place = parsePointKey(key);
        if (place === null) continue;
        there.set(place.vmId, (there.get(place.vmId) ?? new Set()).add(place.seq));
        last.set(place.vmId, Math.max(last.get(place.vmId) ?? 0, place.seq));
      }
    }
    return [...last].flatMap(([vm, newest]) => missingBelow(newest, there.get(vm)).map((seq) => pointId(vm, seq)));
  }

  /** The hints of all machines, by VM id: numbers of points that were committed. */
  async heads(signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const vms: string[] = [];
    for await (const { key } of this.#store.list(HEADS, { signal })) vms.push(key.slice(HEADS.length));
    const seqs = await mapConcurrently(vms, PARALLEL_READS, async (vm) => await this.#head(vm, signal));
    return new Map(vms.map((vm, i) => [vm, seqs[i] ?? 0]));
  }

  /** One point by id, forgotten or not. Rejects `point-unknown`. */
  async point(id: string, signal?: AbortSignal): Promise<PointRecord> {
    const { vmId: vm, seq } = parsePointId(id);
    const point = await this.#find(vm, seq, signal);
    if (point === null) throw unknownPoint(id);
    return point;
  }

  /** One point to stand on: prune may take away what a forgotten one alone refers to while the run goes on. Rejects `point-unknown` for such a one. */
  async livePoint(id: string, signal?: AbortSignal): Promise<PointRecord> {
    const point = await this.point(id, signal);
    const { vmId: vm, seq } = parsePointId(id);
    if (!(await this.#isForgotten(vm, seq, signal))) return point;
    throw new RepositoryError("point-unknown", `The restore point ${id} was forgotten: nothing new can stand on it`, {
      hint: "`thinstream points` lists what there is",
    });
  }

  /** Whether a point was forgotten, and is no longer there. */
  async wasRemoved(id: string, signal?: AbortSignal): Promise<boolean> {
    const { vmId: vm, seq } = parsePointId(id);
    return (await this.#taken(vm, seq, signal)) === "removed";
  }

  /** The newest points of a VM that can be read, found without listing. */
  async lineage(vm: string, options: { readonly depth: number; readonly signal?: AbortSignal }): Promise<Lineage> {
    const id = vmId(this.#keys, vm);
    const asOf = await this.#store.now(options);
    const head = await this.#head(id, options.signal);
    let seq = head;
    const newer = new Map<number, Taken>();
    for (
      let found = await this.#taken(id, seq + 1, options.signal);
      found !== null;
      found = await this.#taken(id, seq + 1, options.signal)
    ) {
      seq++;
      newer.set(seq, found);
    }
    const points: PointRecord[] = [];
    for (let back = seq; back > Math.max(0, seq - LOOK_BACK) && points.length < options.depth; back--) {
      const point = newer.get(back) ?? (await this.#probe(id, back, options.signal));
      if (point === null || typeof point === "string" || (await this.#isForgotten(id, back, options.signal))) continue;
      if (point.vm.name !== vm) throw damaged(`The VMs ${vm} and ${point.vm.name} share the id ${id}`);
      points.push(point);
    }
    return { asOf, vmId: id, points, nextSeq: seq + 1 };
  }

  /** Creates the point, the commit, and reads it back. Rejects `commit-lost` when somebody else's point has that place, `read-back-failed`. */
  async commit(vm: string, point: PointRecord, signal?: AbortSignal): Promise<void> {
    const at = pointAt(vm, point.seq);
    const options = signal === undefined ? {} : { signal };
    const sealed = sealDocument(encodePoint(point), this.#seal(at, DocumentKind.point));
    try {
      await this.#store.putIfAbsent(at, sealed, options);
    } catch (cause) {
      if (!(cause instanceof StoreError) || cause.code !== "already-exists") throw cause;
      throw new RepositoryError("commit-lost", `Another backup of ${point.vm.name} was committed while this one ran`, {
        cause,
        hint: "Nothing was changed. Run one backup of a VM into a repository at a time",
      });
    }
    if (!sealed.equals(await this.#store.get(at, options))) {
      throw new RepositoryError("read-back-failed", `${this.#store.url} did not give back what was put into it: ${at}`, {
        hint: "The store is not to be trusted with backups; check its disks. Forget the point before the next backup",
      });
    }
  }

  /** Rewrites the hint to the newest point; a head that is stale or lost costs a few reads, never a point. */
  async writeHead(vm: string, seq: number, signal?: AbortSignal): Promise<void> {
    const at = headAt(vm);
    await this.#store.put(
      at,
      sealDocument(Buffer.from(JSON.stringify({ seq })), this.#seal(at, DocumentKind.head)),
      signal === undefined ? {} : { signal },
    );
  }

  async isHeld(id: string, signal?: AbortSignal): Promise<boolean> {
    return await this.#holds.has(id, signal);
  }

  /** Rejects `point-unknown`, and `point-held` while the point is held. A damaged point may be forgotten like any other, and one that was lost. */
  async requireForgettable(id: string, signal?: AbortSignal): Promise<void> {
    const { vmId: vm, seq } = parsePointId(id);
    if (seq > (await this.#head(vm, signal))) await this.#requireThere(id, signal);
    if (!(await this.#holds.has(id, signal))) return;
    throw new RepositoryError("point-held", `The restore point ${id} is held and was not forgotten`, {
      hint: "`thinstream point release` lets go of it",
    });
  }

  /** Marks a point as no longer wanted. Forgetting twice is the same as once. Rejects as `requireForgettable`. */
  async forget(id: string, signal?: AbortSignal): Promise<void> {
    const { vmId: vm, seq } = parsePointId(id);
    await this.requireForgettable(id, signal);
    await this.#store.put(forgottenAt(vm, seq), new Uint8Array(0), signal === undefined ? {} : { signal });
  }

  /** Holds a point, damaged or not: nothing forgets or removes it. Resolves with whether it had been forgotten before. Rejects `point-unknown`. */
  async hold(id: string, signal?: AbortSignal): Promise<{ readonly forgotten: boolean }> {
    const { vmId: vm, seq } = await this.#requireThere(id, signal);
    await this.#holds.put(id, signal);
    return { forgotten: await this.#isForgotten(vm, seq, signal) };
  }

  /** Lets go of a held point. Resolves with whether it was held, and whether it had been forgotten before. */
  async release(id: string, signal?: AbortSignal): Promise<{ readonly held: boolean; readonly forgotten: boolean }> {
    const { vmId: vm, seq } = parsePointId(id);
    const held = await this.#holds.has(id, signal);
    if (held) await this.#holds.remove(id, signal);
    else await this.#requireThere(id, signal);
    return { held, forgotten: await this.#isForgotten(vm, seq, signal) };
  }

  /** Whether the point is there and not forgotten. */
  async isLive(id: string, signal?: AbortSignal): Promise<boolean> {
    const { vmId: vm, seq } = parsePointId(id);
    return (await this.#find(vm, seq, signal)) !== null && !(await this.#isForgotten(vm, seq, signal));
  }

  async #requireThere(id: string, signal?: AbortSignal): Promise<{ readonly vmId: string; readonly seq: number }> {
    const place = parsePointId(id);
    if ((await this.#probe(place.vmId, place.seq, signal)) === null) throw unknownPoint(id);
    return place;
  }

  async #tryRead(key: string, signal?: AbortSignal): Promise<PointRecord | UnreadablePoint> {
    const place = parsePointKey(key);
    if (place === null) return { id: key, error: damaged(`${key} is not where a point lies`) };
    try {
      const point = await this.#find(place.vmId, place.seq, signal);
      return point ?? { id: pointId(place.vmId, place.seq), error: unknownPoint(pointId(place.vmId, place.seq)) };
    } catch (thrown) {
      signal?.throwIfAborted();
      return { id: pointId(place.vmId, place.seq), error: thrown instanceof Error ? thrown : damaged(String(thrown)) };
    }
  }

  async #find(vm: string, seq: number, signal?: AbortSignal): Promise<PointRecord | null> {
    const at = pointAt(vm, seq);
    const bytes = await this.#tryGet(at, signal);
    if (bytes === null) return null;
    const point = decodePoint(openDocument(bytes, this.#seal(at, DocumentKind.point)));
    if (point.seq !== seq || point.id !== pointId(vm, seq)) throw damaged(`${at} holds the point ${point.id}`);
    return point;
  }

  async #probe(vm: string, seq: number, signal?: AbortSignal): Promise<Probe> {
    return await this.#find(vm, seq, signal).catch((thrown: unknown) => {
      if (isDamage(thrown)) return "damaged";
      throw thrown;
    });
  }

  async #taken(vm: string, seq: number, signal?: AbortSignal): Promise<Taken> {
    const found = await this.#probe(vm, seq, signal);
    return found === null && (await this.#isForgotten(vm, seq, signal)) ? "removed" : found;
  }

  async #head(vm: string, signal?: AbortSignal): Promise<number> {
    const at = headAt(vm);
    try {
      const bytes = await this.#tryGet(at, signal);
      if (bytes === null) return 0;
      return asCount(parseObject(openDocument(bytes, this.#seal(at, DocumentKind.head)), at)["seq"], `${at}: seq`);
    } catch (thrown) {
      // Only a hint: without it the points are gone through from the first.
      if (isDamage(thrown)) return 0;
      throw thrown;
    }
  }

  async #isForgotten(vm: string, seq: number, signal?: AbortSignal): Promise<boolean> {
    try {
      return (await this.#tryGet(forgottenAt(vm, seq), signal)) !== null;
    } catch (thrown) {
      // That it is there is all that a marker says.
      if (isDamage(thrown)) return true;
      throw thrown;
    }
  }

  async #tryGet(key: string, signal?: AbortSignal): Promise<Uint8Array | null> {
    try {
      return await this.#store.get(key, signal === undefined ? {} : { signal });
    } catch (thrown) {
      if (thrown instanceof StoreError && thrown.code === "not-found") return null;
      // No writer makes such an object: it must not stop a backup any more than other rubbish in its place.
      if (thrown instanceof StoreError && thrown.code === "too-large") throw damaged(thrown.message, thrown);
      throw thrown;
    }
  }

  #seal(at: string, kind: DocumentKind): DocumentSeal {
    return { kind, key: this.#keys.document, at, encrypted: this.#keys.encrypted };
  }
}

/** The id of a point by the key of anything of it; the key itself where it is none. */
function idAt(key: string): string {
  const place = parsePointKey(key);
  return place === null ? key : pointId(place.vmId, place.seq);
}

/** Numbers from 1 on that are not there. */
export function missingBelow(newest: number, there: ReadonlySet<number> = new Set()): number[] {
  const missing: number[] = [];
  for (let seq = 1; seq <= newest; seq++) if (!there.has(seq)) missing.push(seq);
  return missing;
}

function isDamage(thrown: unknown): boolean {
  return thrown instanceof FormatError && thrown.code === "damaged";
}

/** A point as it is sorted. */
interface Digested<T> {
  readonly seq: number;
  readonly time: string;
  readonly vm: string;
  readonly digest: T;
}

/**
 * Oldest first: a machine's points by number, machines among each other by time. A point taken after the clock was set back counts as no older
 * than the one before it: compared by its own time it would have no place that suits all the others.
 */
function oldestFirst<T>(points: readonly Digested<T>[]): Digested<T>[] {
  const latest = new Map<string, string>();
  const timed = points
    .toSorted((a, b) => a.seq - b.seq)
    .map((point) => {
      const before = latest.get(point.vm) ?? "";
      const time = point.time > before ? point.time : before;
      latest.set(point.vm, time);
      return { point, time };
    });
  return timed
    .toSorted((a, b) => compare(a.time, b.time) || compare(a.point.vm, b.point.vm) || a.point.seq - b.point.seq)
    .map(({ point }) => point);
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
