import { type Static, type TSchema, Type } from "typebox";

import { parseContract, record } from "./contract.ts";
import { pointSummarySchema } from "./point-summary.ts";

/** Points in one page of a catalog, at most. */
export const CATALOG_PAGE = 500;
/** How long `GET /wait` is held, ms. */
export const WAIT_MS = 20_000;
/** An agent that serves ends after so long without a request, ms. */
export const SERVING_MS: number = 5 * 60_000;

export const phases = ["Starting", "Freeze", "Begun", "Copying", "Committing", "Serving", "Working", "Ended"] as const;
export type Phase = (typeof phases)[number];

const bytes = Type.Integer({ minimum: 0 });

/** `GET /progress` and `GET /wait` */
const progressSchema = record({
  phase: Type.Enum([...phases]),
  totalBytes: bytes,
  doneBytes: bytes,
  readBytes: bytes,
  storedBytes: bytes,
});
export type AgentProgress = Static<typeof progressSchema>;

/** `POST /frozen`. The guest stays frozen for `remainingMs` from the moment this is sent: two machines' clocks never agree on a time of day. */
const frozenSchema = Type.Union([
  record({ ok: Type.Literal(true), remainingMs: Type.Integer({ minimum: 0, maximum: 3_600_000 }) }),
  record({ ok: Type.Literal(false), message: Type.String({ maxLength: 2048 }) }),
]);
export type FrozenMessage = Static<typeof frozenSchema>;

/** `GET /points` */
const pointsPageSchema = record({
  repository: record({ id: Type.String({ pattern: "^[0-9a-f]{32}$" }), formatVersion: Type.Integer({ minimum: 1, maximum: 1_000_000 }) }),
  points: Type.Array(pointSummarySchema, { maxItems: CATALOG_PAGE }),
  unreadable: Type.Array(record({ id: Type.String(), message: Type.String() }), { maxItems: CATALOG_PAGE }),
  /** place of the next page's first, or null at the end */
  next: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()]),
});
export type PointsPage = Static<typeof pointsPageSchema>;

/** `GET /captures`: the point and the names of what was kept with it */
const capturesSchema = record({ point: pointSummarySchema });
export type CapturesMessage = Static<typeof capturesSchema>;

/** `GET /captures/<name>?piece=<n>` */
const captureSchema = record({ base64: Type.String(), next: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()]) });
export type CaptureMessage = Static<typeof captureSchema>;

/** `POST /done`, and the answer to a POST */
const emptySchema = record({});
export type EmptyMessage = Static<typeof emptySchema>;

function reader<S extends TSchema>(schema: S, what: string): (bytes: Uint8Array | string) => Static<S> {
  return (message) => parseContract(schema, message, what);
}

/** Each throws `ContractError`. */
export const parseProgress: (bytes: Uint8Array | string) => AgentProgress = reader(progressSchema, "The agent's progress");
export const parseFrozen: (bytes: Uint8Array | string) => FrozenMessage = reader(frozenSchema, "The answer about the freeze");
export const parsePointsPage: (bytes: Uint8Array | string) => PointsPage = reader(pointsPageSchema, "The page of the catalog");
export const parseCaptures: (bytes: Uint8Array | string) => CapturesMessage = reader(capturesSchema, "The list of captured files");
export const parseCapture: (bytes: Uint8Array | string) => CaptureMessage = reader(captureSchema, "The captured file");
export const parseEmpty: (bytes: Uint8Array | string) => EmptyMessage = reader(emptySchema, "The message");

/** What a sealed message is bound to: an answer to its path and query, a body to the method too, so that neither passes for the other. */
export function answerPlace(pathAndQuery: string): string {
  return pathAndQuery;
}

export function bodyPlace(pathAndQuery: string): string {
  return `POST ${pathAndQuery}`;
}
