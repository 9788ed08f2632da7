import { once } from "node:events";

import { CATALOG_PAGE, type CatalogWork, type PointsPage } from "../../api/index.ts";
import { errorText } from "../../lib/errors.ts";
import { scrubText } from "../../lib/scrub.ts";
import type { Domains } from "../../repository/index.ts";
import { Refusal } from "./channel-server.ts";
import type { OrderedWork, OrderJob } from "./job.ts";
import { summaryOf } from "./point-summary.ts";
import { Serving } from "./serving.ts";

/** A page ends before it has more than so many characters, save that it has one point at least. */
const PAGE_CHARACTERS = 4 * 2 ** 20;

/** How long a request waits for a whole page, ms; then it gets what is there, perhaps nothing. */
const PATIENCE_MS = 8_000;

interface Entry {
  readonly kind: "points" | "unreadable";
  /** as JSON: the points themselves, with everything a restore needs of them, are not kept for so long */
  readonly json: string;
}

/** Serves every point of the repository in pages while it reads them, machine by machine and each machine's oldest first. */
export function catalogWork({ initialize }: CatalogWork, job: OrderJob): OrderedWork {
  const serving = new Serving();
  const listing = new Listing();
  return {
    routes: {
      ...serving.routes,
      "GET /points": async ({ query, signal }) => await pageOf(listing, Number(query.get("after") ?? "0"), signal),
    },
    carryOut: async (channel) => {
      const read = job.withDomains(async (domains) => await gather(domains, listing, job), { initialize });
      // What goes wrong before there is anything to serve ends the agent at once, and what goes wrong later ends its serving.
      await Promise.race([read, listing.begun]);
      read.catch((thrown: unknown) => serving.fail(thrown));
      await serving.untilDone(job, channel);
      const { entries } = listing;
      const lost = entries.filter(({ kind }) => kind === "unreadable").length;
      const message = `${entries.length - lost} restore points were listed${lost === 0 ? "" : `; ${lost} more cannot be read`}`;
      return { version: 1, outcome: "Succeeded", message, warnings: [], points: entries.length - lost };
    },
  };
}

async function gather(domains: Domains, listing: Listing, { signal }: OrderJob): Promise<void> {
  const about = { id: domains.config.id.toString("hex"), formatVersion: domains.config.version };
  for await (const { points, unreadable, held } of domains.pages({ signal })) {
    const entries = [
      ...points.map((point): Entry => ({
        kind: "points",
        json: JSON.stringify({ ...summaryOf(point), ...(held.has(point.id) ? { held: true } : {}) }),
      })),
      ...unreadable.map(({ id, error }): Entry => ({
        kind: "unreadable",
        json: JSON.stringify({ id, message: scrubText(errorText(error)) }),
      })),
    ];
    listing.add(about, entries);
  }
  // Where all domains are destroyed there is no page.
  if (domains.opened.length === 0) listing.add(about, []);
  listing.end();
}

async function pageOf(listing: Listing, after: number, signal: AbortSignal): Promise<PointsPage> {
  if (!Number.isSafeInteger(after) || after < 0) throw new Refusal(400, "after is not a place in the catalog");
  const repository = await listing.upTo(after + CATALOG_PAGE, signal);
  const { entries, isComplete } = listing;
  let length = 0;
  const page = entries.slice(after, after + CATALOG_PAGE).filter(({ json }, i) => (length += json.length) <= PAGE_CHARACTERS || i === 0);
  const of = (kind: Entry["kind"]): unknown[] => page.filter((entry) => entry.kind === kind).map(({ json }): unknown => JSON.parse(json));
  const next = after + page.length;
  return {
    repository,
    points: of("points") as PointsPage["points"],
    unreadable: of("unreadable") as PointsPage["unreadable"],
    next: next < entries.length || !isComplete ? next : null,
  };
}

/** The points read so far, for those who wait for more. */
class Listing {
  readonly entries: Entry[] = [];
  /** Resolves when there is something to serve. */
  readonly begun: Promise<void>;
  #begin: () => void = () => undefined;
  #changed = new EventTarget();
  #repository: PointsPage["repository"] | null = null;
  #complete = false;

  constructor() {
    this.begun = new Promise((resolve) => (this.#begin = resolve));
  }

  get isComplete(): boolean {
    return this.#complete;
  }

  add(repository: PointsPage["repository"], entries: readonly Entry[]): void {
    this.#repository = repository;
    this.entries.push(...entries);
    this.#tell();
  }

  end(): void {
    this.#complete = true;
    this.#tell();
  }

  /** Waits until so many are there, or all there are; not for ever, as somebody waits for the answer. */
  async upTo(count: number, signal: AbortSignal): Promise<PointsPage["repository"]> {
    const late = AbortSignal.timeout(PATIENCE_MS);
    while (this.entries.length < count && !this.#complete && !late.aborted) {
      await once(this.#changed, "change", { signal: AbortSignal.any([signal, late]) }).catch(() => signal.throwIfAborted());
    }
    if (this.#repository === null) throw new Refusal(409, "The catalog is being read: wait for the phase Serving");
    return this.#repository;
  }

  #tell(): void {
    this.#begin();
    this.#changed.dispatchEvent(new Event("change"));
  }
}
