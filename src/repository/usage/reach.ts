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
}

/** Marks from the roots: of each machine its points in order, so that each map is compared with the one before. */
export async function reach(repository: Repository, { machines }: Roots, options: ReachOptions): Promise<Reached> {
  const usages = new UsageIndex(repository, options);
  const found: Found = { packs: new PackUsage(), roots: new Set(), unclear: [] };
  let points = 0;
  await mapConcurrently(machines, PARALLEL_MACHINES, async (machine) => {
    const walk = new MachineWalk(repository, usages, found);
    for (const place of machine) {
      options.signal.throwIfAborted();
      await walk.take(place, options.signal);
      options.onPoint?.((points += 1));
    }
  });
  return { ...found, points, made: usages.made };
}

/** One machine's points, oldest first. */
class MachineWalk {
  readonly #repository: Repository;
  readonly #usages: UsageIndex;
  readonly #found: Found;
  /** the newest image of each disk so far */
  readonly #last = new Map<string, KnownImage>();

  constructor(repository: Repository, usages: UsageIndex, found: Found) {
    this.#repository = repository;
    this.#usages = usages;
    this.#found = found;
  }

  async take({ id }: PlacedPoint, signal: AbortSignal): Promise<void> {
    try {
      await this.#mark(await this.#repository.catalog.point(id, signal));
    } catch (thrown) {
      signal.throwIfAborted();
      if (!isLoss(thrown) && !(thrown instanceof RepositoryError)) throw thrown;
      this.#found.unclear.push({ id, reason: errorText(thrown) });
    }
  }

  async #mark({ disks, captures }: PointRecord): Promise<void> {
    const { packs, roots } = this.#found;
    packs.raise(usageOfCaptures(captures));
    for (const { name, size, root } of disks) {
      const last = this.#last.get(name);
      if (root === null || (last !== undefined && last.image.root !== null && rootName(last.image.root) === rootName(root))) continue;
      const usage = await this.#usages.of({ size, root }, last ?? null);
      roots.add(rootName(root));
      packs.raise(usage);
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
