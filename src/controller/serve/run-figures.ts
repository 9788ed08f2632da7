import { Counter, Histogram, type Registry } from "prom-client";

import { failureReasons, type RestoreRequest, type VirtualMachineBackup, type WorkType } from "../../api/index.ts";
import { sequence } from "../backup/newest.ts";
import type { Caches } from "../context.ts";
import type { LossReason, StartProblem } from "../dispatch/pod-state.ts";
import { conditionOf, isDone } from "../said.ts";
import type { RunResource } from "../runs/run.ts";
import { PREFIX } from "./reading.ts";

const POD_REASONS: readonly (LossReason | StartProblem)[] = [
  "Evicted",
  "OutOfMemory",
  "NodeLost",
  "DeadlineExceeded",
  "Killed",
  "Deleted",
  "Unschedulable",
  "ImageUnavailable",
  "ConfigurationInvalid",
];
const REASONS: ReadonlySet<string> = new Set([...failureReasons, ...POD_REASONS, "Other"]);
const LEVELS = ["Full", "Incremental", "Copy", "Unknown"] as const;
const BYTES = { dirty: "dirtyBytes", read: "readBytes", uploaded: "uploadedBytes" } as const;
/** seconds: from an incremental of a small disk to half a day */
const BUCKETS = [5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 43_200];
/** Runs whose last failed attempt is remembered. */
const MOST_RUNS = 10_000;

/** What runs came to while this controller led: each end is counted once, when the cluster tells of it. */
export class RunFigures {
  readonly #backups: Counter;
  readonly #restores: Counter;
  readonly #bytes: Counter;
  readonly #lostBitmaps: Counter;
  readonly #duration: Histogram;
  readonly #failures: Partial<Record<WorkType, Counter>>;
  readonly #lastFailed = new Map<string, number>();

  constructor(registry: Registry) {
    const counter = (name: string, help: string, labelNames: readonly string[] = []): Counter =>
      new Counter({ name: PREFIX + name, help, labelNames, registers: [registry] });
    this.#backups = counter(
      "backup_runs_total",
      "Backup runs that ended, by result (succeeded, failed) and by what was read: Full where any disk was read in full, Unknown where it did not come to that.",
      ["result", "level"],
    );
    this.#restores = counter("restore_runs_total", "Restores that ended, by result (succeeded, failed).", ["result"]);
    this.#bytes = counter(
      "backup_bytes_total",
      "Bytes of successful backup runs: dirty (may have changed; of a disk that was read in full all of it), read, and uploaded (put into the store, compressed and encrypted).",
      ["kind"],
    );
    this.#lostBitmaps = counter(
      "backup_lost_bitmap_total",
      "Disks of successful backup runs that were read in full, though the machine had an earlier restore point and nobody asked for a full backup: the change list was lost, or not to be trusted, or the image cannot keep one.",
    );
    const help = "How long successful backup runs took, from the beginning of the first attempt, by what was read.";
    this.#duration = new Histogram({
      name: `${PREFIX}backup_duration_seconds`,
      help,
      labelNames: ["level"],
      buckets: BUCKETS,
      registers: [registry],
    });
    const attempts = "that failed, also those that another followed, by reason.";
    this.#failures = {
      backup: counter("backup_attempt_failures_total", `Attempts of backup runs ${attempts}`, ["reason"]),
      restore: counter("restore_attempt_failures_total", `Attempts of restores ${attempts}`, ["reason"]),
    };
    this.#beginAtZero();
  }

  /** Counts the ends of runs from now on. Returns the way to stop that. */
  follow({ backups, restores }: Pick<Caches, "backups" | "restores">): () => void {
    const ends = [backups.subscribe({ updated: this.backupChanged }), restores.subscribe({ updated: this.restoreChanged })];
    return () => {
      for (const end of ends) end();
    };
  }

  readonly backupChanged = (before: VirtualMachineBackup, run: VirtualMachineBackup): void => {
    if (isDone(before) || !isDone(run)) return;
    const { level = "Unknown" } = run.status ?? {};
    const result = resultOf(run);
    this.#backups.inc({ result, level });
    if (result === "succeeded") this.#count(run, level);
  };

  #count({ spec, status = {} }: VirtualMachineBackup, level: string): void {
    const { disks = [], startTime = "", completionTime = "", pointId = "" } = status;
    for (const [kind, field] of Object.entries(BYTES)) {
      const bytes = disks.reduce((sum, disk) => sum + disk[field], 0);
      this.#bytes.inc({ kind }, bytes);
    }
    const seconds = (Date.parse(completionTime) - Date.parse(startTime)) / 1000;
    if (Number.isFinite(seconds)) this.#duration.observe({ level }, Math.max(0, seconds));
    const hadPoints = sequence({ spec: { pointId } }) > 1;
    if (spec.level === "Auto" && hadPoints) this.#lostBitmaps.inc(disks.filter((disk) => disk.level === "Full").length);
  }

  readonly restoreChanged = (before: RestoreRequest, run: RestoreRequest): void => {
    if (!isDone(before) && isDone(run)) this.#restores.inc({ result: resultOf(run) });
  };

  /** Counts an attempt once, however often it is told. */
  attemptFailed({
    work,
    run,
    attempt,
    reason,
  }: {
    readonly work: WorkType;
    readonly run: RunResource;
    readonly attempt: number;
    readonly reason: string;
  }): void {
    const uid = run.metadata.uid ?? "";
    if ((this.#lastFailed.get(uid) ?? 0) >= attempt) return;
    this.#lastFailed.delete(uid);
    this.#lastFailed.set(uid, attempt);
    for (const oldest of this.#lastFailed.keys()) {
      if (this.#lastFailed.size <= MOST_RUNS) break;
      this.#lastFailed.delete(oldest);
    }
    this.#failures[work]?.inc({ reason: REASONS.has(reason) ? reason : "Other" });
  }

  /** `increase()` does not see the first of a series that was not there before. */
  #beginAtZero(): void {
    for (const level of LEVELS) {
      if (level !== "Unknown") this.#backups.inc({ result: "succeeded", level }, 0);
      this.#backups.inc({ result: "failed", level }, 0);
    }
    for (const result of ["succeeded", "failed"]) this.#restores.inc({ result }, 0);
    for (const kind of Object.keys(BYTES)) this.#bytes.inc({ kind }, 0);
    for (const reason of REASONS) for (const counter of Object.values(this.#failures)) counter.inc({ reason }, 0);
  }
}

function resultOf(run: RunResource): "succeeded" | "failed" {
  return conditionOf(run, "Succeeded")?.status === "True" ? "succeeded" : "failed";
}
