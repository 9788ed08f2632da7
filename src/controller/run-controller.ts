import type { VirtualMachineBackup } from "../api/index.ts";
import { EventRecorder, type Informer, type KubeClient, type KubeObject, LeaderElection, WorkQueue } from "../kube/index.ts";
import type { Logger } from "../lib/logger.ts";
import { Agents, BY_RUN } from "./agents/agents.ts";
import { BackupKind } from "./backup/kind.ts";
import { kubevirtServed, makeCaches } from "./caches.ts";
import { Mirroring } from "./catalog/mirroring.ts";
import { RepositoryReconciler } from "./catalog/reconciler.ts";
import type { ControllerConfig } from "./config.ts";
import type { Caches, ControllerContext, Reconcile } from "./context.ts";
import type { Pod } from "./kinds.ts";
import { Pace } from "./pace.ts";
import { followSelection } from "./policy/follow.ts";
import { PolicyReconciler } from "./policy/reconciler.ts";
import { RestorePointReconciler } from "./points/reconciler.ts";
import { RestoreKind } from "./restore/kind.ts";
import { RunReconciler } from "./runs/reconciler.ts";
import { conditionOf, isDone } from "./said.ts";
import { Endpoints } from "./serve/endpoints.ts";
import { Standing } from "./serve/standing.ts";

export interface ControllerOptions {
  readonly client: KubeClient;
  readonly config: ControllerConfig;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly now?: () => Date;
  /** Called when this controller leads and its caches are filled. */
  readonly onLeading?: () => void;
}

/** What is reconciled, by kind. */
interface Parts {
  readonly queues: Readonly<Record<string, WorkQueue>>;
  readonly caches: Caches;
}

/** Runs the controller until `signal` aborts: follows the cluster at once, acts only while it leads. Rejects when leadership is lost. */
export async function runController(options: ControllerOptions): Promise<void> {
  const { client, config, log, signal, now = () => new Date() } = options;
  const standing = new Standing(client, signal, now);
  const endpoints = await Endpoints.open(config.metricsPort, standing, log);
  try {
    await follow(options, standing);
  } finally {
    // To the very end of the drain: not ready since `signal` aborted, alive and telling until all is done.
    await endpoints.close();
  }
}

/** Anew where KubeVirt was installed after the caches were made: they follow its kinds from then on. */
async function follow(options: ControllerOptions, standing: Standing): Promise<void> {
  const { client, log, signal } = options;
  for (;;) {
    const caches = await makeCaches(client, log, signal);
    const installed = new AbortController();
    const done = new AbortController();
    const looking =
      caches.machines === null ? kubevirtServed(client, done.signal).then((is) => is && installed.abort()) : Promise.resolve();
    try {
      await followCaches({ ...options, signal: AbortSignal.any([signal, installed.signal]) }, { caches, standing });
    } catch (thrown) {
      if (thrown !== installed.signal.reason) throw thrown;
    } finally {
      done.abort();
      await looking;
    }
    if (signal.aborted || !installed.signal.aborted) return;
    log.info({}, "KubeVirt is installed: its machines are followed from now on");
  }
}

async function followCaches(
  options: ControllerOptions,
  { caches, standing }: { readonly caches: Caches; readonly standing: Standing },
): Promise<void> {
  const { client, config, log, signal } = options;
  standing.follows(caches);
  const all = Object.values(caches).filter((informer): informer is Informer<KubeObject> => informer !== null);
  const stop = new AbortController();
  const following = all.map(async (informer) => await informer.run(stop.signal));
  try {
    await untilAborted(Promise.all(all.map(async ({ synced }) => await synced)), signal);
    const election = new LeaderElection(client, {
      namespace: config.namespace,
      name: "thinstream-controller",
      identity: config.identity,
      logger: log,
    });
    await election.run(signal, async (leadership) => await lead(options, { caches, standing }, leadership));
  } finally {
    stop.abort();
    await Promise.allSettled(following);
  }
}

async function lead(
  options: ControllerOptions,
  { caches, standing }: { readonly caches: Caches; readonly standing: Standing },
  leadership: AbortSignal,
): Promise<void> {
  const { client, config, log, now = () => new Date() } = options;
  const events = new EventRecorder(client, { controller: "thinstream.dev/controller", instance: config.identity, logger: log });
  const queues: Record<string, WorkQueue> = {};
  const toRun = (uid: string): void => wake(queues, caches.agentPods.lister.byIndex(BY_RUN, uid)[0]);
  const agents = new Agents({ client, pods: caches.agentPods, namespace: config.namespace, onProgress: toRun, log });
  const figures = standing.metrics.runs;
  const context: ControllerContext = {
    client,
    caches,
    agents,
    events,
    config,
    log,
    now,
    pace: new Pace(),
    mirroring: new Mirroring(),
    figures,
    leadership: () => leadership,
  };
  const add = (name: string, workers: number, reconcile: Reconcile): void => {
    queues[name] = new WorkQueue({ name, workers, work: reconcile, logger: log });
  };
  add("VirtualMachineBackup", 8, new RunReconciler(context, new BackupKind(context)).reconcile);
  add("RestoreRequest", 4, new RunReconciler(context, new RestoreKind(context)).reconcile);
  add("BackupRepository", 4, new RepositoryReconciler(context).reconcile);
  const wakeRepository = (name: string): void => queues["BackupRepository"]?.addAfter(name, 1000);
  // Two at a time: of tens of thousands nothing is urgent.
  add("RestorePoint", 2, new RestorePointReconciler(context, wakeRepository).reconcile);
  add("BackupPolicy", 4, new PolicyReconciler(context).reconcile);
  const unsubscribe = [
    ...subscribe({ queues, caches }),
    standing.leads(Object.values(queues)),
    standing.metrics.requests.follow(caches, config.namespace),
  ];
  try {
    options.onLeading?.();
    await Promise.all(Object.values(queues).map(async (queue) => await queue.run(leadership)));
  } finally {
    for (const end of unsubscribe) end();
    await events.flush();
  }
}

/** Every change puts the key of what it concerns in line. */
function subscribe({ queues, caches }: Parts): readonly (() => void)[] {
  const to = (kind: string) => (object: KubeObject) => queues[kind]?.add(keyOf(object.metadata));
  const policyOf = ({ metadata }: KubeObject): void => {
    const policy = metadata.labels?.["thinstream.dev/policy"];
    if (policy !== undefined) queues["BackupPolicy"]?.addAfter(policy, 500);
  };
  const wakeRuns = (which: (run: VirtualMachineBackup) => boolean): void => {
    for (const run of caches.backups.lister.list()) if (which(run) && !isDone(run)) to("VirtualMachineBackup")(run);
  };
  return [
    each(caches.backups, to("VirtualMachineBackup")),
    each(caches.backups, policyOf),
    each(caches.restores, to("RestoreRequest")),
    each(caches.repositories, to("BackupRepository")),
    // What waits for a repository, or for its policy's window, goes on as soon as it can.
    caches.repositories.subscribe({
      updated: (before, repository) => {
        if (conditionOf(before, "Ready")?.status === conditionOf(repository, "Ready")?.status) return;
        wakeRuns(({ spec }) => spec.repositoryRef.name === repository.metadata.name);
      },
    }),
    each(caches.policies, to("BackupPolicy")),
    ...followSelection(caches, (policy) => queues["BackupPolicy"]?.addAfter(policy, 500)),
    caches.policies.subscribe({
      updated: (before, { metadata }) => {
        if (before.metadata.generation !== metadata.generation) wakeRuns(({ spec }) => spec.policyRef?.name === metadata.name);
      },
    }),
    each(caches.points, to("RestorePoint")),
    each(caches.agentPods, (pod) => wake(queues, pod)),
  ];
}

function each<T extends KubeObject>(informer: Informer<T>, add: (object: T) => void): () => void {
  return informer.subscribe({ added: add, updated: (_, object) => add(object), deleted: add });
}

/** Puts what an agent works for in line. */
function wake(queues: Readonly<Record<string, WorkQueue>>, pod: Pod | undefined): void {
  const [kind = "", namespace = "", name = ""] = (pod?.metadata.annotations?.["thinstream.dev/owner"] ?? "").split("/");
  if (name !== "") queues[kind]?.add(keyOf({ namespace, name }));
}

function keyOf({ namespace = "", name }: { readonly namespace?: string; readonly name: string }): string {
  return namespace === "" ? name : `${namespace}/${name}`;
}

async function untilAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const aborted = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }));
  await Promise.race([work, aborted]);
}
