import { type BackupRepository, type CheckedResult, durationMs, type SucceededResult, type Work } from "../../api/index.ts";
import type { Say } from "../said.ts";

type Maintenance = BackupRepository["spec"]["maintenance"];
type Status = NonNullable<BackupRepository["status"]>;

/** What a task came to. */
export interface Told {
  readonly say: Pick<Say, "status" | "reason" | "message">;
  /** what its part of the status shows beside times; undefined takes away what an earlier one said */
  readonly facts: object;
  /** ids of restore points that lack something; null where it was not looked for */
  readonly damaged: readonly string[] | null;
  /** whether every byte was looked at */
  readonly isWhole: boolean;
}

/** A part of a repository's upkeep that has a schedule of its own. */
export interface Task {
  readonly work: "prune" | "check" | "lock";
  /** of the repository, which says how it stands */
  readonly condition: "Pruned" | "Sound" | "Locked";
  readonly failed: string;
  /** what is said where it has no schedule; null: nothing, it need not have one */
  readonly unscheduled: string | null;
  /** ms that it may take */
  readonly limitMs: number;
  readonly scheduled: (maintenance: Maintenance) => { readonly schedule: string; readonly work: Work } | null;
  readonly known: (status: Status) => Status["prune"] | Status["check"] | Status["lock"];
  /** null for a result that says nothing of this work, which is not for granted */
  readonly told: (result: SucceededResult) => Told | null;
}

const HOUR_MS = 60 * 60_000;
const LEVELS = { List: "list", Checksum: "checksum" } as const;

const prune: Task = {
  work: "prune",
  condition: "Pruned",
  failed: "PruneFailed",
  unscheduled: "what restore points no longer need stays in the bucket: set spec.maintenance.prune.schedule",
  limitMs: 6 * HOUR_MS,
  scheduled: ({ prune: settings }) => (settings === undefined ? null : { schedule: settings.schedule, work: { type: "prune" } }),
  known: ({ prune: known }) => known,
  told: ({ message, prune: found }) => {
    if (found === undefined) return null;
    const { removedPacks: _, unclear, sparse, ...rest } = found;
    const { packs: sparsePacks, bytes: sparseBytes, needless: needlessBytes } = sparse ?? {};
    const facts = { waitingUntil: undefined, ...rest, sparsePacks, sparseBytes, needlessBytes };
    const say = unclear > 0 ? ({ status: "False", reason: "NothingMayGo" } as const) : ({ status: "True", reason: "Pruned" } as const);
    return { say: { ...say, message }, facts, damaged: null, isWhole: false };
  },
};

const check: Task = {
  work: "check",
  condition: "Sound",
  failed: "CheckFailed",
  unscheduled: "nobody looks whether all is there that restore points need: set spec.maintenance.check.schedule",
  limitMs: 24 * HOUR_MS,
  scheduled: ({ check: settings }) =>
    settings === undefined
      ? null
      : {
          schedule: settings.schedule,
          work: { type: "check", level: LEVELS[settings.level], samplePercent: settings.samplePercent },
        },
  known: ({ check: known }) => known,
  told: ({ message, check: found }) => {
    if (found === undefined) return null;
    const { level, samplePercent, packs, bytesRead, sums, damaged, damagedPoints } = found;
    // A checksum is the store's word. And of points that had no room in the message nobody can say that they are well.
    const isWhole = level !== "checksum" && samplePercent === 100 && damaged === damagedPoints.length;
    const comparedPacks = sums?.compared;
    const facts = { level: level === "checksum" ? "Checksum" : "List", packs, bytesRead, comparedPacks, damagedPoints: damaged };
    return { say: { ...soundness(found), message }, facts, damaged: damagedPoints, isWhole };
  },
};

function soundness({ findings, packs, sums }: CheckedResult): Pick<Say, "status" | "reason"> {
  if (findings > 0) return { status: "False", reason: "DamageFound" };
  // Nothing of what it was there for could be looked at.
  if (sums?.compared === 0 && packs > 0) return { status: "Unknown", reason: "NothingCompared" };
  return { status: "True", reason: "NoDamageFound" };
}

const lock: Task = {
  work: "lock",
  condition: "Locked",
  failed: "LockFailed",
  unscheduled: null,
  limitMs: 6 * HOUR_MS,
  scheduled: ({ lock: settings }) =>
    settings === undefined
      ? null
      : { schedule: settings.schedule, work: { type: "lock", seconds: durationMs(settings.period) / 1000, requests: settings.requests } },
  known: ({ lock: known }) => known,
  told: ({ message, lock: found }) => {
    if (found === undefined) return null;
    const say =
      found.exposed > 0 ? ({ status: "False", reason: "NotAllLocked" } as const) : ({ status: "True", reason: "Locked" } as const);
    return { say: { ...say, message }, facts: { soonest: undefined, ...found }, damaged: null, isWhole: false };
  },
};

export const tasks: readonly Task[] = [prune, check, lock];
