import { mapConcurrently } from "../../lib/concurrency.ts";
import { errorText } from "../../lib/errors.ts";
import { RepositoryError } from "../errors.ts";
import type { PointRecord } from "../format/point.ts";
import { isLoss } from "../map/image-map.ts";
import type { Repository } from "../repository.ts";
import { PackUsage } from "./pack-usage.ts";
import type { PlacedPoint, Roots } from "./roots.ts";
import { type KnownImage, rootName, UsageIndex } from "./usage-index.ts";

const PARALLEL_MACHINES = 8;

/** What points that count refer to. */
export interface Reached {
  /** of each pack the most that one point needs */
  readonly packs: PackUsage;
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
  const found: Found = { packs: new PackUsage(), roots: new Set(), unclear: [] };
  let points = 0;
  await mapConcurrently(machines, PARALLEL_MACHINES, async (machine) => {
    const walk = new MachineWalk(repository, { usages, found, options });
    for (const place of machine) {
      options.signal.throwIfAborted();
      await walk.take(place);
      points += 1;
      options.onPoint?.(points);
    }
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

  async #mark(point: PointRecord): Promise<void> {
    const { usages, found, options } = this.#walking;
    const captures = usageOfCaptures(point.captures);
    found.packs.raise(captures);
    options.onUse?.(point, captures);
    for (const { name, size, root } of point.disks) {
      if (root === null) continue;
      const last = this.#last.get(name) ?? null;
      const isSame = last?.image.root != null && rootName(last.image.root) === rootName(root);
      const usage = isSame ? last.usage : await usages.of({ size, root }, last);
      found.roots.add(rootName(root));
      if (!isSame) found.packs.raise(usage);
      options.onUse?.(point, usage);
      this.#last.set(name, { image: { size, root }, usage });
    }
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
