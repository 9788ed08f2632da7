import { type BackupPolicy, durationMs, type RestorePoint } from "../../api/index.ts";
import {
  firstOutOfTime,
  planRetention,
  retentionPreview,
  type RetainedPoint,
  type RetentionRules,
  type RetentionVerdict,
  type TimedPoint,
} from "../../retention/index.ts";
import type { ControllerContext, Listers } from "../context.ts";
import { identityOf } from "../identity.ts";
import { type PolicyProtection, policyProtection, type Protection, protectionOf } from "../plan/rpo.ts";
import { BY_MACHINE, machineKey, newestOf, sequence } from "../backup/newest.ts";
import { conditionOf } from "../said.ts";
import { keyOf, type Selected } from "./select.ts";

/** milliseconds between two events about the same restore point */
const DOUBT_MS = 3_600_000;

/** Whether the policy's machines have restore points that are young enough. */
export function protectionNow(context: Looking, policy: BackupPolicy, machines: readonly Selected[]): PolicyProtection {
  return policyProtection(protectionsNow(context, policy, machines));
}

/** What `protectionNow` looks at: the catalog as it is mirrored, not what runs said. */
export interface Looking {
  readonly caches: Pick<Listers, "repositories" | "points">;
  readonly now: () => Date;
}

/** The same for each machine, in their order. */
export function protectionsNow(context: Looking, policy: BackupPolicy, machines: readonly Selected[]): readonly Protection[] {
  const { rpo, repositoryRef } = policy.spec;
  const repository = context.caches.repositories.lister.get(repositoryRef.name);
  const isCatalogKnown = repository?.status?.conditions?.some(({ type, status }) => type === "CatalogSynced" && status === "True") ?? false;
  return machines.map((machine) => {
    const newest = newestOf(context, repositoryRef.name, machine);
    return protectionOf(
      {
        machine: keyOf(machine),
        newestReady: newest === null ? null : new Date(newest.spec.time),
        rpoSeconds: rpo === undefined ? null : durationMs(rpo) / 1000,
        since: new Date(Math.max(machine.createdAt.getTime(), identityOf(policy).createdAt.getTime())),
        isCatalogKnown,
      },
      context.now(),
    );
  });
}

/** A point as retention looks at it, with its mirror. */
export interface Retained extends RetainedPoint, TimedPoint {
  readonly object: RestorePoint;
}

/** What the policy's retention makes of its machines' points. */
export function retentionNow(
  context: ControllerContext,
  policy: BackupPolicy,
  machines: readonly Selected[],
): readonly RetentionVerdict<Retained>[] {
  const { retention, timeZone, repositoryRef } = policy.spec;
  if (retention === undefined) return [];
  const { keepWithin, ...counts } = retention;
  const rules: RetentionRules = { ...counts, ...(keepWithin === undefined ? {} : { keepWithinSeconds: durationMs(keepWithin) / 1000 }) };
  return machines.flatMap((machine) => {
    const points = context.caches.points.lister.byIndex(BY_MACHINE, machineKey(repositoryRef.name, machine));
    return weigh(context, policy, { points: points.map(retained), rules, timeZone });
  });
}

function weigh(
  { events, pace, now }: ControllerContext,
  policy: BackupPolicy,
  { points, rules, timeZone }: { readonly points: readonly Retained[]; readonly rules: RetentionRules; readonly timeZone: string },
): readonly RetentionVerdict<Retained>[] {
  const doubtful = firstOutOfTime(points, now());
  if (doubtful === null) return planRetention(points, rules, timeZone);
  if (pace.allows(`clock/${identityOf(policy).uid}/${doubtful.id}`, DOUBT_MS)) {
    const note = `no restore point of ${doubtful.object.spec.vm.name} is forgotten: the store's clock was wrong at ${doubtful.id} or after it; delete that RestorePoint`;
    events.record(policy, { type: "Warning", reason: "ClockWrong", action: "Retain", note });
  }
  return points.map((point) => ({ point, reasons: ["the clock was wrong"] }));
}

function retained(object: RestorePoint): Retained {
  const { pointId, time, hold } = object.spec;
  const number = sequence(object);
  const status = conditionOf(object, "Ready")?.status;
  const ready = status === "True" ? true : status === "False" ? false : null;
  return { id: pointId, time: new Date(time), ready, hold, object, sequence: number };
}

export { retentionPreview };
