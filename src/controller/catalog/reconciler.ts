import { type BackupRepository, ContractError, parseAgentResult, type PointsPage, rfc3339 } from "../../api/index.ts";
import { applyStatus } from "../../kube/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { AgentChannel } from "../agents/agent-channel.ts";
import { agentObjects } from "../agents/objects.ts";
import type { ControllerContext, Reconcile } from "../context.ts";
import { isOverdue, type PodState, podState } from "../dispatch/pod-state.ts";
import { identityOf } from "../identity.ts";
import { type Pod, repositories } from "../kinds.ts";
import { conditionsAfter, type Say } from "../said.ts";
import { keepUp } from "../upkeep/upkeep.ts";
import { forgetDeleted } from "./forget.ts";
import { secretTrouble } from "./secrets.ts";
import { type Catalog, syncCatalog } from "./sync.ts";
import { troubleOf } from "./trouble.ts";

type Again = Awaited<ReturnType<Reconcile>>;

/** milliseconds that a catalog may take */
const CATALOG_MS = 15 * 60_000;
const START_MS = 5 * 60_000;
const LOOK_MS = 2_000;
/** milliseconds between two looks for a Secret that is missing: Secrets are not watched */
const SECRET_MS = 15_000;

/** Looks at repositories: whether they can be used, and what points they hold, by an agent that reads the catalog and serves it in pages. */
export class RepositoryReconciler {
  readonly #context: ControllerContext;

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  readonly reconcile: Reconcile = async (key, signal) => {
    const { caches, agents } = this.#context;
    const repository = caches.repositories.lister.get(key);
    const isThere = repository !== undefined && repository.metadata.deletionTimestamp === undefined;
    await agents.removeStrangers(`BackupRepository//${key}`, isThere ? repository.metadata.uid : "", signal);
    if (!isThere) return undefined;
    const forgetting = await forgetDeleted(this.#context, repository, signal);
    const upkeep = await keepUp(this.#context, repository, signal);
    return sooner(sooner(forgetting, upkeep), await this.#catalog(repository, signal));
  };

  async #catalog(repository: BackupRepository, signal: AbortSignal): Promise<Again> {
    // One on a node that is gone only read: it does not keep another from it.
    const pod = this.#context.agents.workers(identityOf(repository).uid, "catalog").find((one) => !isOverdue(one, this.#context.now()));
    // What is being taken away has had its say.
    if (pod?.metadata.deletionTimestamp !== undefined) return { againInMs: LOOK_MS };
    if (pod !== undefined) return await this.#look(repository, pod, signal);
    const dueIn = this.#dueIn(repository);
    return dueIn > 0 ? { againInMs: dueIn } : await this.#begin(repository, signal);
  }

  /** milliseconds until the catalog is to be read again; at once where the repository changed since */
  #dueIn({ metadata, status }: BackupRepository): number {
    const ready = status?.conditions?.find(({ type }) => type === "Ready");
    if (ready === undefined || ready.status === "Unknown" || status?.observedGeneration !== metadata.generation) return 0;
    // What failed is tried again sooner than what went well.
    const last = this.#context.pace.last(`catalog/${metadata.uid ?? ""}`);
    const every = ready.status === "True" ? this.#context.config.syncMs : Math.min(60_000, this.#context.config.syncMs);
    return last === null ? 0 : last + every - performance.now();
  }

  async #begin(repository: BackupRepository, signal: AbortSignal): Promise<Again> {
    const { agents, config, now, pace } = this.#context;
    const lacking = await secretTrouble(this.#context, repository, signal);
    if (lacking !== null) {
      await this.#fail(repository, lacking, signal);
      return { againInMs: SECRET_MS };
    }
    pace.allows(`catalog/${identityOf(repository).uid}`, 0);
    const deadline = new Date(now().getTime() + CATALOG_MS);
    // What was there once is never made anew: its points are missed, not forgotten.
    const initialize = repository.spec.initialize === "IfNotPresent" && repository.status?.repositoryId === undefined;
    const work = { type: "catalog", initialize } as const;
    const job = { owner: repository, attempt: this.#serial(), work, repository, deadline, uploadBytesPerSecond: 0, nodeName: null };
    await agents.launch(agentObjects({ ...job, mounts: [], files: {}, annotations: {} }, config), signal);
    if (repository.status?.conditions === undefined) await this.#write(repository, { says: connecting, kstatus: "Reconciling" }, signal);
    return { againInMs: LOOK_MS };
  }

  /** Names the pods of one repository apart; a controller that starts anew finds them by their labels. */
  #serial(): number {
    return 1 + (Math.floor(this.#context.now().getTime() / 1000) % 999_999);
  }

  async #look(repository: BackupRepository, pod: Pod, signal: AbortSignal): Promise<Again> {
    const { agents, now } = this.#context;
    const state = podState(pod);
    const age = now().getTime() - identityOf(pod).createdAt.getTime();
    if (state.phase === "running") return await this.#read(repository, pod, signal);
    if (await agents.removeUnordered(pod, signal)) return { againInMs: LOOK_MS };
    if (state.phase === "starting" && age < START_MS) return { againInMs: LOOK_MS };
    const failure = failureOf(state);
    if (failure !== null) await this.#fail(repository, failure, signal);
    await agents.removePod(pod, signal);
    return { againInMs: LOOK_MS };
  }

  /** Fetches the catalog once the agent serves it, mirrors it, and lets the agent go. */
  async #read(repository: BackupRepository, pod: Pod, signal: AbortSignal): Promise<Again> {
    const { agents } = this.#context;
    const address = await agents.address(pod, signal);
    if (address === null) return { againInMs: LOOK_MS };
    const channel = new AgentChannel(address);
    const progress = await channel.progress(signal).catch(() => null);
    if (progress?.phase !== "Serving") return { againInMs: LOOK_MS };
    const first = await channel.points(0, signal);
    const { id: found } = first.repository;
    const { repositoryId: known = found } = repository.status ?? {};
    if (found === known) {
      const since = identityOf(pod).createdAt;
      const { name } = repository.metadata;
      const sync = async (): Promise<Catalog> => await syncCatalog(this.#context, { repository: name, channel, since, first }, signal);
      const catalog = await this.#context.mirroring.during(name, sync);
      await this.#succeed(repository, { ...catalog, ...first.repository }, signal);
    } else {
      const message = `the repository ${known} was there before, now it is ${found}: bring the first back, or delete this BackupRepository and make it again to use the other`;
      await this.#fail(repository, { reason: "RepositoryReplaced", message }, signal);
    }
    await channel.done(signal).catch(() => undefined);
    return { againInMs: LOOK_MS };
  }

  async #succeed(repository: BackupRepository, catalog: Catalog & PointsPage["repository"], signal: AbortSignal): Promise<void> {
    const { points, machines, storedBytes, id: repositoryId, formatVersion } = catalog;
    const encrypted = repository.spec.encryption.mode === "ClientSide";
    const lost = catalog.unreadable.length === 0 ? "" : `; ${catalog.unreadable.length} more cannot be read: run thinstream check`;
    const says: Say[] = [
      { type: "Ready", status: "True", reason: "Available", message: `${points} restore points of ${machines} machines${lost}` },
      { type: "Reachable", status: "True", reason: "Reached", message: "" },
      { type: "KeyAvailable", status: "True", reason: encrypted ? "KeyMatches" : "NotEncrypted", message: "" },
      { type: "CatalogSynced", status: "True", reason: "Synced", message: `${points} restore points are mirrored` },
    ];
    const usage = { points, machines, storedBytes, stored: formatBytes(storedBytes) };
    const more = { repositoryId, formatVersion, usage, lastSyncTime: rfc3339(this.#context.now()) };
    await this.#write(repository, { says, kstatus: null, more }, signal);
  }

  async #fail(repository: BackupRepository, { reason, message }: Failure, signal: AbortSignal): Promise<void> {
    const says = trouble(reason, message);
    await this.#write(repository, { says, kstatus: troubleOf(reason).stalls ? "Stalled" : "Reconciling" }, signal);
    this.#context.events.record(repository, { type: "Warning", reason: says[0]?.reason ?? reason, action: "ReadCatalog", note: message });
  }

  async #write(
    repository: BackupRepository,
    {
      says,
      kstatus,
      more = {},
    }: { readonly says: readonly Say[]; readonly kstatus: "Stalled" | "Reconciling" | null; readonly more?: object },
    signal: AbortSignal,
  ): Promise<void> {
    const { client, now } = this.#context;
    const next = (latest: BackupRepository): BackupRepository["status"] =>
      ({
        ...latest.status,
        ...more,
        observedGeneration: latest.metadata.generation ?? 0,
        conditions: conditionsAfter(latest, says, kstatus, now()),
      }) as BackupRepository["status"];
    await applyStatus(client, repositories, repository, { next, signal });
  }
}

function sooner(a: Again, b: Again): Again {
  return a === undefined || b === undefined ? (a ?? b) : { againInMs: Math.min(a.againInMs, b.againInMs) };
}

const connecting: readonly Say[] = [
  { type: "Ready", status: "Unknown", reason: "Connecting", message: "its catalog is being read for the first time" },
  { type: "Reachable", status: "Unknown", reason: "Connecting", message: "" },
  { type: "KeyAvailable", status: "Unknown", reason: "NotChecked", message: "" },
  { type: "CatalogSynced", status: "False", reason: "NotSyncedYet", message: "" },
];

function trouble(reason: string, message: string): readonly Say[] {
  const { ready, reachable, key, synced } = troubleOf(reason);
  return [
    { type: "Ready", status: "False", reason: ready, message },
    { type: "Reachable", ...reachable, message: "" },
    { type: "KeyAvailable", ...key, message: "" },
    { type: "CatalogSynced", status: "False", reason: synced, message },
  ];
}

interface Failure {
  readonly reason: string;
  readonly message: string;
}

/** What an agent came to that neither works nor will; null where all is well. */
function failureOf(state: Exclude<PodState, { readonly phase: "running" }>): Failure | null {
  if (state.phase === "reported") return failureIn(state.message);
  if (state.phase === "lost") return { reason: state.reason, message: `the agent that reads the catalog was lost: ${state.message}` };
  const message = `the agent that reads the catalog does not start: ${state.problem?.message ?? "no node runs it"}`;
  return { reason: state.problem?.reason ?? "Unschedulable", message };
}

/** What an agent said went wrong; null where nothing did. */
function failureIn(text: string): Failure | null {
  try {
    const result = parseAgentResult(text);
    return result.outcome === "Failed" ? result : null;
  } catch (thrown) {
    if (!(thrown instanceof ContractError)) throw thrown;
    return { reason: "Internal", message: thrown.message };
  }
}
