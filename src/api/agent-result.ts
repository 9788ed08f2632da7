import { type Static, type TInteger, Type } from "typebox";

import { oneOfBy, parseContract, record } from "./contract.ts";
import { failureReasons, type FailureReason, isRetryable } from "./failure-reason.ts";
import { pointLevels, pointConsistencies } from "./point-summary.ts";

/** The most that Kubernetes keeps of a termination message. */
export const MAX_RESULT_BYTES = 4096;

const MAX_MESSAGE = 1024;
const MAX_WARNING = 256;
const bytes: TInteger = Type.Integer({ minimum: 0 });
const count: TInteger = Type.Integer({ minimum: 0 });

const disk = record({
  name: Type.String(),
  level: Type.Enum([...pointLevels]),
  /** why it was read whole, where a list of changes was hoped for */
  reason: Type.Optional(Type.String()),
  size: bytes,
  dirtyBytes: bytes,
  zeroBytes: bytes,
  readBytes: bytes,
  uploadedBytes: bytes,
});

/** What was asked of the store, tries that failed counted in. */
const requests = record({ get: count, head: count, list: count, put: count, delete: count });

/** What a prune found and did. */
const pruned = record({
  /** stored when it began */
  packs: count,
  packBytes: bytes,
  removedPoints: count,
  removedPacks: count,
  removedBytes: bytes,
  /** not needed any more, and kept until they have been found so twice */
  waitingBytes: bytes,
  /** when a prune may remove the first of them, RFC 3339 */
  waitingUntil: Type.Optional(Type.String()),
  /** points of which nobody can tell what they need: while there are any, no pack goes */
  unclear: count,
  /** packs of which little is needed, and of their bytes those that nobody needs; absent where nobody can tell */
  sparse: Type.Optional(record({ packs: count, bytes, needless: bytes })),
});

/** The most ids of damaged points that a result has. */
export const MAX_DAMAGED = 64;

const checked = record({
  /** what it was told to do beside the lists; the order may have changed since. Absent: by an agent that knows of no level but `list` */
  level: Type.Optional(Type.Enum(["list", "checksum"])),
  /** how many percent of the packs it was told to read, or to compare */
  samplePercent: Type.Number({ minimum: 0, maximum: 100 }),
  points: count,
  packs: count,
  bytesRead: bytes,
  /** level `checksum`: packs that were compared, and such as could not be: the upload wrote down no checksum, or the store keeps none */
  sums: Type.Optional(record({ compared: count, unrecorded: count, unkept: count })),
  findings: count,
  /** points that are damaged, and the ids of the first of them */
  damaged: count,
  damagedPoints: Type.Array(Type.String(), { maxItems: MAX_DAMAGED }),
});

const locked = record({
  /** that restore points need and that are locked */
  objects: count,
  /** the first end of all their locks, RFC 3339 */
  soonest: Type.Optional(Type.String()),
  renewed: count,
  /** due, and left for want of requests */
  left: count,
  /** needed, and not locked, missing, overwritten or deleted; or whose need nobody can tell */
  exposed: count,
});

const succeeded = record({
  version: Type.Literal(1),
  outcome: Type.Literal("Succeeded"),
  message: Type.String(),
  warnings: Type.Array(Type.String()),
  /** backup: the point, made by this attempt or an earlier one of the same run */
  point: Type.Optional(
    record({
      id: Type.String(),
      time: Type.String(),
      level: Type.Enum([...pointLevels]),
      consistency: Type.Enum([...pointConsistencies]),
      /** an earlier attempt had made it */
      found: Type.Boolean(),
    }),
  ),
  /** sums over all disks, also those that were left out below */
  totals: Type.Optional(record({ size: bytes, dirtyBytes: bytes, readBytes: bytes, uploadedBytes: bytes })),
  disks: Type.Optional(Type.Array(disk)),
  /** catalog and forget: how many */
  points: Type.Optional(count),
  prune: Type.Optional(pruned),
  check: Type.Optional(checked),
  lock: Type.Optional(locked),
  /** what the progress counted to; absent where there was nothing to count */
  totalBytes: Type.Optional(bytes),
  requests: Type.Optional(requests),
  /** what had no room: disks and warnings from the end, and the ends of texts (they end in …) */
  omitted: Type.Optional(record({ disks: count, warnings: count })),
});

const failed = record({
  version: Type.Literal(1),
  outcome: Type.Literal("Failed"),
  reason: Type.Enum([...failureReasons]),
  message: Type.String(),
  retryable: Type.Boolean(),
  requests: Type.Optional(requests),
});

const schema = oneOfBy("outcome", [succeeded, failed]);

export type SucceededResult = Static<typeof succeeded>;
export type FailedResult = Static<typeof failed>;
export type AgentResult = Static<typeof schema>;
export type PrunedResult = Static<typeof pruned>;
export type LockedResult = Static<typeof locked>;
export type CheckedResult = Static<typeof checked>;
export type StoreRequests = Static<typeof requests>;
export type ResultDisk = Static<typeof disk>;

export function failedResult(reason: FailureReason, message: string): FailedResult {
  return { version: 1, outcome: "Failed", reason, message, retryable: isRetryable(reason) };
}

/** Reads a termination message. Throws `ContractError`, as for what a killed agent left: nothing. */
export function parseAgentResult(text: string): AgentResult {
  return parseContract(schema, text, "The agent's result");
}

/**
 * The termination message: JSON of at most 4,096 bytes. Texts are cut first (a message to 1,024 characters, a warning or reason to 256); then the disks
 * lose their reasons; what is then still too much goes from the end, disks before warnings, and `omitted` counts it; at last the message is halved until
 * it fits.
 */
export function formatAgentResult(result: AgentResult): string {
  const message = cut(result.message, MAX_MESSAGE);
  return result.outcome === "Failed" ? fitted({ ...result, message }) : fitted(shortened({ ...result, message }));
}

function shortened(result: SucceededResult): SucceededResult {
  const warnings = result.warnings.map((warning) => cut(warning, MAX_WARNING));
  const whole: SucceededResult = { ...result, warnings, ...disksBy(result, withCutReason) };
  if (fits(whole)) return whole;
  const all: SucceededResult = { ...whole, ...disksBy(result, withoutReason) };
  const disks = all.disks ?? [];
  const without = (keptDisks: number, keptWarnings: number): SucceededResult => ({
    ...all,
    ...(all.disks === undefined ? {} : { disks: disks.slice(0, keptDisks) }),
    warnings: warnings.slice(0, keptWarnings),
    omitted: { disks: disks.length - keptDisks, warnings: warnings.length - keptWarnings },
  });
  if (fits(all)) return all;
  const keptDisks = mostThatFit(disks.length, (kept) => without(kept, warnings.length));
  return without(keptDisks, keptDisks > 0 ? warnings.length : mostThatFit(warnings.length, (kept) => without(0, kept)));
}

function disksBy({ disks }: SucceededResult, change: (one: ResultDisk) => ResultDisk): Pick<SucceededResult, "disks"> {
  return disks === undefined ? {} : { disks: disks.map(change) };
}

function withCutReason(one: ResultDisk): ResultDisk {
  return one.reason === undefined ? one : { ...one, reason: cut(one.reason, MAX_WARNING) };
}

function withoutReason(one: ResultDisk): ResultDisk {
  const rest = { ...one };
  delete rest.reason;
  return rest;
}

/** The most of `all` members with which the result still fits; the fewer the smaller. */
function mostThatFit(all: number, result: (kept: number) => SucceededResult): number {
  let [least, most] = [0, all];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (fits(result(middle))) least = middle;
    else most = middle - 1;
  }
  return least;
}

function fitted(result: AgentResult): string {
  let fitting = result;
  while (!fits(fitting) && fitting.message.length > 1) fitting = { ...fitting, message: cut(fitting.message, fitting.message.length >> 1) };
  return JSON.stringify(fitting);
}

function fits(result: AgentResult): boolean {
  return Buffer.byteLength(JSON.stringify(result)) <= MAX_RESULT_BYTES;
}

function cut(text: string, length: number): string {
  if (text.length <= length) return text;
  return `${text.slice(0, Math.max(0, length - 1)).replace(/[\uD800-\uDBFF]$/, "")}…`;
}
