import { type AgentProgress, labels, parseWorkOrder, type WorkType, type WorkOrder } from "../../api/index.ts";
import { type Informer, isKubeError, type KubeClient } from "../../kube/index.ts";
import { errorText } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { SealingKey } from "../../lib/sealed-message.ts";
import { podState } from "../dispatch/pod-state.ts";
import { type Pod, pods, type Secret, secrets } from "../kinds.ts";
import type { AgentAddress } from "./agent-channel.ts";
import { followAgent, type GuestFreezer } from "./follower.ts";
import type { AgentObjects } from "./job.ts";

/** Index of the pod informer: a run's pods by the UID of its resource. */
export const BY_RUN = "run";
/** And by `<kind>/<namespace>/<name>` of the resource, which may be gone. */
export const BY_OWNER = "owner";
/** Label: what a pod is for. */
const WORK = "thinstream.dev/work";

export interface AgentsOptions {
  readonly client: KubeClient;
  readonly pods: Informer<Pod>;
  /** Where agents and their Secrets are. */
  readonly namespace: string;
  /** Called with the run's UID when an agent that is followed has something new to say. */
  readonly onProgress: (uid: string) => void;
  readonly log: Logger;
}

interface Following {
  readonly aborter: AbortController;
  progress: AgentProgress | null;
}

const MAX_LOG_BYTES = 4000;

/** The agents' pods: makes, finds, follows and removes them. All of it may be repeated at any time. */
export class Agents {
  readonly #options: AgentsOptions;
  /** by the pod's UID */
  readonly #following = new Map<string, Following>();

  constructor(options: AgentsOptions) {
    this.#options = options;
    options.pods.subscribe({ deleted: (pod) => this.#forget(pod) });
  }

  /** A run's pods as the cache has them. */
  of(uid: string): readonly Pod[] {
    return this.#options.pods.lister.byIndex(BY_RUN, uid);
  }

  /**
   * Those that do one kind of its work. Agents only count where they are made, in our namespace: elsewhere a tenant could make a pod that looks like one,
   * and say in its place how a run ended. A holder is in the tenant's namespace, and nothing it says is believed.
   */
  workers(uid: string, work: WorkType | "hold"): readonly Pod[] {
    const { namespace } = this.#options;
    return this.of(uid).filter(({ metadata }) => metadata.labels?.[WORK] === work && (work === "hold" || metadata.namespace === namespace));
  }

  /** A pod that the cache need not know yet; null where there is none. */
  async find(namespace: string, name: string, signal: AbortSignal): Promise<Pod | null> {
    const { client, pods: cache } = this.#options;
    const known = cache.lister.get(`${namespace}/${name}`);
    if (known !== undefined) return known;
    return await client.get(pods, { namespace, name }, { signal }).catch((thrown: unknown) => {
      if (isKubeError(thrown, "not-found")) return null;
      throw thrown;
    });
  }

  /**
   * Makes an agent's pod, and its order, a Secret that the pod owns and waits for: so it never outlives the pod, whoever dies in between. What is there already
   * stays: the controller that made it did not live to hear of it. Null where that is a pod that never got its order, which goes first.
   */
  async launch({ secret, pod }: AgentObjects, signal: AbortSignal): Promise<Pod | null> {
    const { client } = this.#options;
    const there = await this.find(pod.metadata.namespace, pod.metadata.name, signal);
    if (there !== null) return (await this.removeUnordered(there, signal)) ? null : there;
    // The new pod must not find an old one's: its arguments hold the digest of its own.
    await ignoring("not-found", client.delete(secrets, secret.metadata, { signal }));
    const made = await client.create(pods, pod, { signal });
    const { name, uid = "" } = made.metadata;
    const owned = { ...secret.metadata, ownerReferences: [{ apiVersion: "v1", kind: pods.kind, name, uid }] };
    try {
      await client.create(secrets, { ...secret, metadata: owned }, { signal });
    } catch (thrown) {
      // Of no use alone. Where this fails too, it is taken away when it is found without its order.
      await client.delete(pods, made.metadata, { uid, signal }).catch(() => undefined);
      throw thrown;
    }
    return made;
  }

  /**
   * Takes away a pod whose order was never made, since the controller that made the pod did not live to: it has not begun, and never would.
   * @returns whether it is such a one
   */
  async removeUnordered(pod: Pod, signal: AbortSignal): Promise<boolean> {
    if (!neverRan(pod)) return false;
    try {
      await this.#secretOf(pod, signal);
      return false;
    } catch (thrown) {
      if (!isKubeError(thrown, "not-found")) throw thrown;
    }
    await this.removePod(pod, signal);
    return true;
  }

  /** Ends the pods that were made for resources of a name which are gone. @param owner `<kind>/<namespace>/<name>` @param uid of the one that is there */
  async removeStrangers(owner: string, uid: string | undefined, signal: AbortSignal): Promise<void> {
    for (const pod of this.#options.pods.lister.byIndex(BY_OWNER, owner)) {
      if (pod.metadata.labels?.[labels.run] !== uid) await this.removePod(pod, signal);
    }
  }

  /** Ends a run's pods and takes away all that was made for them. Their SIGTERM undoes what they began. */
  async remove(uid: string, signal: AbortSignal, except: string | null = null): Promise<void> {
    for (const pod of this.of(uid)) if (pod.metadata.name !== except) await this.removePod(pod, signal);
  }

  /** The order first: what it holds stays no longer than it is needed. */
  async removePod({ metadata }: Pod, signal: AbortSignal): Promise<void> {
    const { client } = this.#options;
    await ignoring("not-found", client.delete(secrets, { name: metadata.name, namespace: this.#options.namespace }, { signal }));
    if (metadata.deletionTimestamp === undefined) await ignoring("not-found", client.delete(pods, metadata, { uid: metadata.uid, signal }));
  }

  /** The last lines an agent wrote; empty where they are gone. */
  async logTail({ metadata }: Pod, signal: AbortSignal): Promise<string> {
    const text = await this.#options.client.podLog(metadata, { tailLines: 20, signal }).catch(() => "");
    return text.length <= MAX_LOG_BYTES ? text : `…${text.slice(1 - MAX_LOG_BYTES)}`;
  }

  /** Where an agent answers, and the key of its channel; null while it does not run. */
  async address(pod: Pod, signal: AbortSignal): Promise<AgentAddress | null> {
    const state = podState(pod);
    if (state.phase !== "running") return null;
    const { channel } = await this.order(pod, signal);
    return { host: state.address, port: channel.port, key: SealingKey.fromBase64(channel.key) };
  }

  /** What an agent was told to do. */
  async order(pod: Pod, signal: AbortSignal): Promise<WorkOrder> {
    const { data } = await this.#secretOf(pod, signal);
    return parseWorkOrder(Buffer.from(data?.["order.json"] ?? "", "base64"));
  }

  async #secretOf({ metadata: { name } }: Pod, signal: AbortSignal): Promise<Secret> {
    return await this.#options.client.get(secrets, { name, namespace: this.#options.namespace }, { signal });
  }

  /** What an agent that is followed said last. */
  progress(pod: Pod): AgentProgress | null {
    return this.#following.get(pod.metadata.uid ?? "")?.progress ?? null;
  }

  /** Follows a running agent until it ends; at once where it is followed already. @param signal for as long as this controller leads */
  async follow(pod: Pod, freezer: GuestFreezer | null, signal: AbortSignal): Promise<void> {
    const { log, onProgress } = this.#options;
    const id = pod.metadata.uid ?? "";
    if (this.#following.has(id)) return;
    const following: Following = { aborter: new AbortController(), progress: null };
    this.#following.set(id, following);
    const address = await this.address(pod, signal).catch((thrown: unknown) => {
      this.#following.delete(id);
      throw thrown;
    });
    if (address === null) {
      this.#following.delete(id);
      return;
    }
    const run = pod.metadata.labels?.[labels.run] ?? "";
    const told = (progress: AgentProgress): void => {
      following.progress = progress;
      onProgress(run);
    };
    const both = AbortSignal.any([signal, following.aborter.signal]);
    void followAgent({ address, freezer, onProgress: told, log, signal: both }).catch((err: unknown) =>
      log.error({ err }, `following ${pod.metadata.name} failed: ${errorText(err)}`),
    );
  }

  #forget({ metadata }: Pod): void {
    this.#following.get(metadata.uid ?? "")?.aborter.abort();
    this.#following.delete(metadata.uid ?? "");
  }
}

/** A pod that is taken away before it starts is said to have failed for a moment; when it ended is said of those alone that had begun. */
function neverRan(pod: Pod): boolean {
  const state = podState(pod);
  return state.phase === "starting" || (state.phase === "lost" && state.finishedAt === null);
}

async function ignoring(code: "not-found" | "already-exists", work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (thrown) {
    if (!isKubeError(thrown, code)) throw thrown;
  }
}
