import { type BackupPolicy, durationMs, rfc3339 } from "../../api/index.ts";
import { applyStatus, isKubeError } from "../../kube/index.ts";
import { mapConcurrently } from "../../lib/concurrency.ts";
import { errorText } from "../../lib/errors.ts";
import { InvalidValueError } from "../../lib/invalid-value.ts";
import type { ControllerContext, Reconcile } from "../context.ts";
import { forgetPoints } from "../catalog/forget.ts";
import { identityOf } from "../identity.ts";
import { backups, policies } from "../kinds.ts";
import type { PolicyProtection } from "../plan/rpo.ts";
import type { RetentionVerdict } from "../../retention/index.ts";
import { type DueRun, planSchedule, type PolicySchedule, type SchedulePlan } from "../plan/schedule.ts";
import { conditionOf, conditionsAfter, isDone, type Say } from "../said.ts";
import { protectionNow, type Retained, retentionNow, retentionPreview } from "./protection.ts";
import { type Machine, oldRuns, runManifest, runsOf, scheduledMachine } from "./runs.ts";
import { keyOf, type Selected, selectMachines } from "./select.ts";
import { newTroubles, type Unprotected } from "./troubles.ts";

type Again = Awaited<ReturnType<Reconcile>>;

/** milliseconds after which a policy is looked at again even if nothing is due: what it says of ages grows old */
const LOOK_MS = 5 * 60_000;
const MAX_UNPROTECTED = 20;
/** Runs of one policy that are made at a time: those of a thousand machines may be due at the same moment. */
const MAKE_AT_ONCE = 8;

/** What a policy came to, at one moment. */
interface Sight {
  readonly selected: readonly Selected[];
  readonly machines: readonly Machine[];
  readonly plan: SchedulePlan<Machine>;
  readonly protection: PolicyProtection;
  readonly retention: readonly RetentionVerdict<Retained>[];
}

/** What of the status is no condition. */
interface Facts {
  readonly [field: string]: unknown;
  readonly unprotected?: Unprotected[];
}

const nothingSelected =
  "no VirtualMachine has the labels and namespaces that it selects: change namespaces.selector or selector, or label the machines";

/** Policies: makes the runs that are due, and says how well the machines are protected. */
export class PolicyReconciler {
  readonly #context: ControllerContext;
  /** latest scheduled time counted as missed, by policy and machine */
  readonly #missed = new Map<string, Date>();

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  readonly reconcile: Reconcile = async (key, signal) => {
    const { caches, now } = this.#context;
    const policy = caches.policies.lister.get(key);
    if (policy === undefined || policy.metadata.deletionTimestamp !== undefined) return undefined;
    const selected = selectMachines(policy, caches);
    const own = selected.filter(({ otherPolicy }) => otherPolicy === null);
    const runs = runsOf(policy, caches);
    const machines = own.map((machine) =>
      scheduledMachine(machine, runs.get(keyOf(machine)) ?? [], this.#missed.get(`${key} ${machine.uid}`) ?? null),
    );
    let plan: SchedulePlan<Machine>;
    try {
      plan = planSchedule(scheduleOf(policy), machines, now());
    } catch (thrown) {
      if (!(thrown instanceof InvalidValueError)) throw thrown;
      await this.#write(policy, [{ type: "Ready", status: "False", reason: "ScheduleInvalid", message: errorText(thrown) }], {}, signal);
      return undefined;
    }
    await this.#act(policy, plan, signal);
    await this.#history(policy, machines, signal);
    const protection = protectionNow(this.#context, policy, own);
    const retention = retentionNow(this.#context, policy, own);
    await this.#retain(policy, retention, signal);
    await this.#tell(policy, { selected, machines, plan, protection, retention }, signal);
    return this.#again(plan, protection);
  };

  async #act(policy: BackupPolicy, plan: SchedulePlan<Machine>, signal: AbortSignal): Promise<void> {
    const { events } = this.#context;
    for (const { machine, tick, reason, missed } of plan.missed) {
      this.#missed.set(`${policy.metadata.name} ${machine.uid}`, tick);
      const note = `${keyOf(machine)}: ${missed} scheduled ${missed === 1 ? "time" : "times"} passed without a run, at last ${rfc3339(tick)} (${reason})`;
      events.record(policy, { type: "Warning", reason: "RunMissed", action: "Schedule", note });
    }
    const made = await mapConcurrently(plan.due, MAKE_AT_ONCE, async (due) => await this.#make(policy, due, signal));
    const names = made.filter((name) => name !== null);
    if (names.length === 0) return;
    const note = `${names.length} ${names.length === 1 ? "run" : "runs"}: ${names.join(", ")}`;
    events.record(policy, { type: "Normal", reason: "RunsMade", action: "Schedule", note });
  }

  /** Resolves with the run's name; null where it was made before. */
  async #make(policy: BackupPolicy, due: DueRun<Machine>, signal: AbortSignal): Promise<string | null> {
    const manifest = runManifest(policy, due);
    try {
      await this.#context.client.create(backups, manifest, { signal });
    } catch (thrown) {
      if (isKubeError(thrown, "already-exists")) return null;
      throw thrown;
    }
    return `${manifest.metadata.namespace}/${manifest.metadata.name}`;
  }

  async #history(policy: BackupPolicy, machines: readonly Machine[], signal: AbortSignal): Promise<void> {
    for (const run of machines.flatMap(({ runs }) => oldRuns(runs, policy.spec.runsHistoryLimit))) {
      await this.#context.client.delete(backups, run.metadata, { uid: run.metadata.uid, lane: "low", signal }).catch((thrown: unknown) => {
        if (!isKubeError(thrown, "not-found", "conflict")) throw thrown;
      });
    }
  }

  /** Forgets what no rule of the retention keeps. Only while the catalog is known: what is not seen might be what has to stay. */
  async #retain(policy: BackupPolicy, retention: Sight["retention"], signal: AbortSignal): Promise<void> {
    const repository = this.#context.caches.repositories.lister.get(policy.spec.repositoryRef.name);
    if (repository === undefined || conditionOf(repository, "CatalogSynced")?.status !== "True") return;
    const verdicts = retention.filter(({ reasons }) => reasons.length === 0);
    const points = verdicts.map(({ point }) => point.object).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    await forgetPoints(this.#context, points, signal);
    if (points.length === 0) return;
    const note = `${points.length} restore ${points.length === 1 ? "point" : "points"} that no rule keeps: ${points.map(({ spec }) => spec.pointId).join(", ")}`;
    this.#context.events.record(policy, { type: "Normal", reason: "PointsForgotten", action: "Retain", note });
  }

  async #tell(policy: BackupPolicy, sight: Sight, signal: AbortSignal): Promise<void> {
    const { machines, plan, protection, retention } = sight;
    const preview = policy.spec.retention === undefined ? {} : { retentionPreview: retentionPreview(retention) };
    const lastTick = Math.max(
      ...machines.map(({ lastTick: tick }) => tick?.getTime() ?? -Infinity),
      ...plan.due.map(({ tick }) => tick?.getTime() ?? -Infinity),
    );
    const newest = machines
      .flatMap(({ runs }) => runs.map(({ status }) => Date.parse(status?.pointId === undefined ? "" : (status.completionTime ?? ""))))
      .filter((time) => !Number.isNaN(time));
    const trigger = policy.spec.trigger?.manual;
    const facts = {
      matchedVMs: sight.selected.length,
      protectedVMs: protection.protected,
      activeRuns: machines.filter(({ runs }) => runs.some((run) => !isDone(run) && run.status?.startTime !== undefined)).length,
      ...(Number.isFinite(lastTick) ? { lastScheduleTime: rfc3339(new Date(lastTick)) } : {}),
      nextScheduleTime: plan.nextTick === null ? undefined : rfc3339(plan.nextTick),
      ...(newest.length === 0 ? {} : { lastSuccessfulTime: rfc3339(new Date(Math.max(...newest))) }),
      // Of a machine whose run is under way it is acted on when that is done.
      ...(trigger === undefined || machines.some(({ active, lastTrigger }) => active && lastTrigger !== trigger)
        ? {}
        : { lastManualTrigger: trigger }),
      ...preview,
      unprotected: unprotectedOf(sight),
    };
    await this.#write(policy, this.#saying(policy, sight), facts, signal);
  }

  #saying(policy: BackupPolicy, { selected, plan, protection }: Sight): readonly Say[] {
    const { repositoryRef } = policy.spec;
    const protectedSay: Say = { type: "Protected", status: protection.status, reason: protection.reason, message: protection.message };
    const ready = (status: Say["status"], reason: string, message: string): readonly Say[] => [
      { type: "Ready", status, reason, message: `${message}${othersOf(selected)}` },
      protectedSay,
    ];
    if (this.#context.caches.repositories.lister.get(repositoryRef.name) === undefined) {
      return ready("False", "RepositoryNotFound", `there is no BackupRepository ${repositoryRef.name}: make it, or name another`);
    }
    if (this.#context.caches.machines === null)
      return ready("False", "NothingSelected", "the cluster has no KubeVirt: there are no VirtualMachines to select");
    if (selected.length === 0) return ready("True", "NothingSelected", nothingSelected);
    if (policy.spec.suspend) return ready("True", "Suspended", "scheduled runs are left out until suspend is false");
    if (policy.spec.schedule === undefined) return ready("True", "ManualOnly", "it has no schedule: runs are made on trigger.manual alone");
    if (plan.nextTick === null) return ready("False", "NeverDue", "the schedule has no time to come: change it");
    return ready("True", "Scheduled", `the next runs are due at ${rfc3339(plan.nextTick)}`);
  }

  async #write(policy: BackupPolicy, says: readonly Say[], facts: Facts, signal: AbortSignal): Promise<void> {
    const { client, events, now } = this.#context;
    const kstatus = says[0]?.status === "False" ? "Stalled" : null;
    for (const { reason, note } of newTroubles(policy, says, facts.unprotected ?? []))
      events.record(policy, { type: "Warning", reason, action: "Schedule", note });
    const next = (latest: BackupPolicy): BackupPolicy["status"] =>
      ({
        ...latest.status,
        ...facts,
        observedGeneration: latest.metadata.generation ?? 0,
        conditions: conditionsAfter(latest, says, kstatus, now()),
      }) as BackupPolicy["status"];
    await applyStatus(client, policies, policy, { next, signal });
  }

  #again({ lookAgain, nextTick }: SchedulePlan<Machine>, { changesAt }: PolicyProtection): Again {
    const now = this.#context.now().getTime();
    // At the next scheduled time its status names the one after, also where nothing is selected.
    const times = [lookAgain, nextTick, changesAt].filter((time) => time !== null).map((time) => time.getTime() - now);
    return { againInMs: Math.max(100, Math.min(LOOK_MS, ...times)) };
  }
}

function othersOf(selected: readonly Selected[]): string {
  const others = selected.filter(({ otherPolicy }) => otherPolicy !== null).length;
  if (others === 0) return "";
  return `; ${others} of the ${selected.length} machines that it selects ${others === 1 ? "is" : "are"} backed up by another policy: see status.unprotected`;
}

function scheduleOf(policy: BackupPolicy): PolicySchedule {
  const { spec, status } = policy;
  const { uid, createdAt } = identityOf(policy);
  const trigger = spec.trigger?.manual ?? null;
  return {
    uid,
    createdAt,
    schedule: spec.schedule ?? null,
    timeZone: spec.timeZone,
    suspend: spec.suspend,
    jitterSeconds: durationMs(spec.jitter) / 1000,
    startingDeadlineSeconds: durationMs(spec.startingDeadline) / 1000,
    window: spec.window ?? null,
    // Machines that are selected later are not backed up for a trigger of the past.
    trigger: trigger === status?.lastManualTrigger ? null : trigger,
  };
}

function unprotectedOf({ selected, protection }: Sight): Unprotected[] {
  const other = selected.flatMap(({ namespace, name, otherPolicy }) =>
    otherPolicy === null
      ? []
      : [{ namespace, name, reason: "OtherPolicy", message: `the policy ${otherPolicy} backs it up: of several, the first by name does` }],
  );
  const own = protection.unprotected.map(({ machine, reason, message }) => {
    const [namespace = "", name = ""] = machine.split("/");
    return { namespace, name, reason, message: message.slice(0, 512) };
  });
  return [...own, ...other].slice(0, MAX_UNPROTECTED);
}
