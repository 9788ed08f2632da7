import { CATALOG_PAGE, type CatalogWork, type PointsPage } from "../../api/index.ts";
import { errorText } from "../../lib/errors.ts";
import { scrubText } from "../../lib/scrub.ts";
import type { Repository } from "../../repository/index.ts";
import { Refusal } from "./channel-server.ts";
import type { OrderedWork, OrderJob } from "./job.ts";
import { summaryOf } from "./point-summary.ts";
import { Serving } from "./serving.ts";

/** A page ends before it has more than so many characters, save that it has one point at least. */
const PAGE_CHARACTERS = 4 * 2 ** 20;

interface Entry {
  readonly kind: "points" | "unreadable";
  /** as JSON: the points themselves, with everything a restore needs of them, are not kept for so long */
  readonly json: string;
}

interface Listing {
  readonly repository: PointsPage["repository"];
  readonly entries: readonly Entry[];
}

/** Lists every point of the repository, oldest first and those that cannot be read last, and serves them in pages. */
export function catalogWork({ initialize }: CatalogWork, job: OrderJob): OrderedWork {
  const serving = new Serving();
  let listing: Listing | null = null;
  return {
    routes: {
      ...serving.routes,
      "GET /points": ({ query }) => {
        if (listing === null) throw new Refusal(409, "The catalog is being read: wait for the phase Serving");
        return Promise.resolve(pageOf(listing, Number(query.get("after") ?? "0")));
      },
    },
    carryOut: async (channel) => {
      const { entries } = (listing = await job.withRepository(async (repository) => await listingOf(repository, job), { initialize }));
      await serving.untilDone(job, channel);
      const lost = entries.filter(({ kind }) => kind === "unreadable").length;
      const message = `${entries.length - lost} restore points were listed${lost === 0 ? "" : `; ${lost} more cannot be read`}`;
      return { version: 1, outcome: "Succeeded", message, warnings: [], points: entries.length - lost };
    },
  };
}

async function listingOf({ catalog, config }: Repository, { signal }: OrderJob): Promise<Listing> {
  const { points, unreadable, held } = await catalog.list({ signal });
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
  return { repository: { id: config.id.toString("hex"), formatVersion: config.version }, entries };
}

function pageOf({ repository, entries }: Listing, after: number): PointsPage {
  if (!Number.isSafeInteger(after) || after < 0) throw new Refusal(400, "after is not a place in the catalog");
  let length = 0;
  const page = entries.slice(after, after + CATALOG_PAGE).filter(({ json }, i) => (length += json.length) <= PAGE_CHARACTERS || i === 0);
  const of = (kind: Entry["kind"]): unknown[] => page.filter((entry) => entry.kind === kind).map(({ json }): unknown => JSON.parse(json));
  const next = after + page.length;
  return {
    repository,
    points: of("points") as PointsPage["points"],
    unreadable: of("unreadable") as PointsPage["unreadable"],
    next: next < entries.length ? next : null,
  };
}
