import { mapConcurrently } from "../../lib/concurrency.ts";
import { errorText } from "../../lib/errors.ts";
import { RepositoryError } from "../errors.ts";
import { PackNumbers } from "../format/pack-numbers.ts";
import type { PointRecord } from "../format/point.ts";
import { isLoss } from "../map/image-map.ts";
import type { Repository } from "../repository.ts";
import { PackUsage } from "./pack-usage.ts";
import type { PlacedPoint, Roots } from "./roots.ts";
import { type KnownImage, rootName, UsageIndex } from "./usage-index.ts";

const PARALLEL_MACHINES = 8;

/** What points that count refer to. */
export interface Reached {
  /**
   * Of each pack what all points need together, or more: of one machine's disk the most that one point does, for what came after a pack was written
   * can only need less of it; of several disks, and of several machines, the sum.
   */
  readonly packs: PackUsage;
  /** of each pack what the disks of the machines' newest points need, likewise */
  readonly newest: PackNumbers;
  /** names of the maps, as `rootName` gives them */
  readonly roots: ReadonlySet<string>;
  readonly points: number;
  /** points of which it cannot be said what they refer to: nothing may be given up because of them */
  readonly unclear: readonly { readonly id: string; readonly reason: string }[];
  /** usage documents that were made */
  readonly made: number;
}

interface Found {
  readonly packs: PackUsage;
  readonly newest: PackNumbers;
  readonly roots: Set<string>;
  readonly unclear: { readonly id: string; readonly reason: string }[];
}

export interface ReachOptions {
  readonly signal: AbortSignal;
  readonly keep: boolean;
  readonly onPoint?: (done: number) => void;
  /** told of each point and what it uses, in pieces: one for its captures and one for each disk */
  readonly onUse?: (point: PointRecord, usage: PackUsage) => void;
}

/** Marks from the roots: of each machine its points in order, so that each map is compared with the one before. */
export async function reach(repository: Repository, { machines }: Roots, options: ReachOptions): Promise<Reached> {
  const usages = new UsageIndex(repository, options);
  const found: Found = { packs: new PackUsage(), newest: new PackNumbers(), roots: new Set(), unclear: [] };
  let points = 0;
  await mapConcurrently(machines, PARALLEL_MACHINES, async (machine) => {
    const walk = new MachineWalk(repository, { usages, found, options });
    for (const place of machine) {
      options.signal.throwIfAborted();
      await walk.take(place);
      points += 1;
      options.onPoint?.(points);
    }
    walk.end();
  });
  return { ...found, points, made: usages.made };
}

interface Walking {
  readonly usages: UsageIndex;
  readonly found: Found;
  readonly options: ReachOptions;
}

/** One machine's points, oldest first. */
class MachineWalk {
  readonly #repository: Repository;
  readonly #walking: Walking;
  /** the newest image of each disk so far */
  readonly #last = new Map<string, KnownImage>();
  /** the most that one point needs for each disk */
  readonly #most = new Map<string, PackUsage>();
  readonly #captures = new PackUsage();
  /** disks of the newest point so far */
  #disks: readonly string[] = [];

  constructor(repository: Repository, walking: Walking) {
    this.#repository = repository;
    this.#walking = walking;
  }

  async take({ id }: PlacedPoint): Promise<void> {
    const { signal } = this.#walking.options;
    try {
      await this.#mark(await this.#repository.catalog.point(id, signal));
    } catch (thrown) {
      signal.throwIfAborted();
      if (!isLoss(thrown) && !(thrown instanceof RepositoryError)) throw thrown;
      this.#walking.found.unclear.push({ id, reason: errorText(thrown) });
    }
  }

  /** All points of the machine were taken. */
  end(): void {
    const { packs, newest } = this.#walking.found;
    for (const { bytes, ends } of [this.#captures, ...this.#most.values()]) {
      packs.bytes.add(bytes);
      packs.ends.raise(ends);
    }
    for (const disk of this.#disks) newest.add(this.#last.get(disk)?.usage.bytes ?? new PackNumbers());
  }

  async #mark(point: PointRecord): Promise<void> {
    const { usages, found, options } = this.#walking;
    const captures = usageOfCaptures(point.captures);
    this.#captures.raise(captures);
    this.#disks = point.disks.filter(({ root }) => root !== null).map(({ name }) => name);
    options.onUse?.(point, captures);
    for (const { name, size, root } of point.disks) {
      if (root === null) continue;
      const last = this.#last.get(name) ?? null;
      const isSame = last?.image.root != null && rootName(last.image.root) === rootName(root);
      const usage = isSame ? last.usage : await usages.of({ size, root }, last);
      found.roots.add(rootName(root));
      if (!isSame) this.#mostOf(name).raise(usage);
      options.onUse?.(point, usage);
      this.#last.set(name, { image: { size, root }, usage });
    }
  }

  #mostOf(disk: string): PackUsage {
    const most = this.#most.get(disk) ?? new PackUsage();
    this.#most.set(disk, most);
    return most;
  }
}

function usageOfCaptures(captures: PointRecord["captures"]): PackUsage {
  const usage = new PackUsage();
  for (const { pack, offset, length } of captures.flatMap(({ pieces }) => pieces)) {
    usage.bytes.set(pack, usage.bytes.get(pack) + length);
    usage.ends.set(pack, Math.max(usage.ends.get(pack), offset + length));
  }
  return usage;
}
