import { CATALOG_PAGE, type PointsPage } from "../../api/index.ts";
import { errorText } from "../../lib/errors.ts";
import { scrubText } from "../../lib/scrub.ts";
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

/** Lists every point of the repository, oldest first and those that cannot be read last, and serves them in pages. */
export function catalogWork(job: OrderJob): OrderedWork {
  const serving = new Serving();
  let entries: readonly Entry[] | null = null;
  return {
    routes: {
      ...serving.routes,
      "GET /points": ({ query }) => {
        if (entries === null) throw new Refusal(409, "The catalog is being read: wait for the phase Serving");
        return Promise.resolve(pageOf(entries, Number(query.get("after") ?? "0")));
      },
    },
    carryOut: async (channel) => {
      entries = await job.withRepository(async (repository) => {
        const { points, unreadable, held } = await repository.catalog.list({ signal: job.signal });
        return [
          ...points.map((point): Entry => ({
            kind: "points",
            json: JSON.stringify({ ...summaryOf(point), ...(held.has(point.id) ? { held: true } : {}) }),
          })),
          ...unreadable.map(({ id, error }): Entry => ({
            kind: "unreadable",
            json: JSON.stringify({ id, message: scrubText(errorText(error)) }),
          })),
        ];
      });
      await serving.untilDone(job, channel);
      const lost = entries.filter(({ kind }) => kind === "unreadable").length;
      const message = `${entries.length - lost} restore points were listed${lost === 0 ? "" : `; ${lost} more cannot be read`}`;
      return { version: 1, outcome: "Succeeded", message, warnings: [], points: entries.length - lost };
    },
  };
}

function pageOf(entries: readonly Entry[], after: number): PointsPage {
  if (!Number.isSafeInteger(after) || after < 0) throw new Refusal(400, "after is not a place in the catalog");
  let length = 0;
  const page = entries.slice(after, after + CATALOG_PAGE).filter(({ json }, i) => (length += json.length) <= PAGE_CHARACTERS || i === 0);
  const of = (kind: Entry["kind"]): unknown[] => page.filter((entry) => entry.kind === kind).map(({ json }): unknown => JSON.parse(json));
  const next = after + page.length;
  return {
    points: of("points") as PointsPage["points"],
    unreadable: of("unreadable") as PointsPage["unreadable"],
    next: next < entries.length ? next : null,
  };
}
