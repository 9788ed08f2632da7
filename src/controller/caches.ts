import { Informer, type InformerOptions, isKubeError, type KubeClient, type KubeObject, type ResourceKind } from "../kube/index.ts";
import { systemClock } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import { BY_OWNER, BY_RUN } from "./agents/agents.ts";
import { WITH_AGENT, withAgent } from "./backup/admission.ts";
import { BY_MACHINE, machineKey } from "./backup/newest.ts";
import { TO_FORGET, toForget } from "./catalog/forget.ts";
import { BY_REPOSITORY } from "./catalog/sync.ts";
import type { Caches } from "./context.ts";
import {
  backups,
  instances,
  type Loose,
  machines,
  namespaces,
  pods,
  policies,
  repositories,
  restorePoints,
  restoreRequests,
} from "./kinds.ts";
import { BY_POLICY } from "./policy/runs.ts";

const RESYNC_MS = 10 * 60_000;
/** milliseconds between two looks for KubeVirt where it is not installed */
const KUBEVIRT_MS = 60_000;

/** Copies of everything the controller follows. KubeVirt's kinds are followed where the cluster has them now. */
export async function makeCaches(client: KubeClient, logger: Logger, signal: AbortSignal): Promise<Caches> {
  const follow = <T extends KubeObject>(kind: ResourceKind<T>, options: InformerOptions<T> = {}): Informer<T> =>
    new Informer(client, kind, { logger, ...options });
  const hasKubevirt = await isServed(client, machines, signal);
  const slim = <T extends KubeObject>(kind: ResourceKind<T>): Informer<T> => follow(kind, { transform: onlyMetadata });
  return {
    repositories: follow(repositories, { resyncMs: RESYNC_MS }),
    policies: follow(policies, { resyncMs: RESYNC_MS }),
    backups: follow(backups, {
      resyncMs: RESYNC_MS,
      indices: { [BY_POLICY]: ({ spec }) => (spec.policyRef === undefined ? [] : [spec.policyRef.name]), [WITH_AGENT]: withAgent },
    }),
    restores: follow(restoreRequests, { resyncMs: RESYNC_MS }),
    points: follow(restorePoints, {
      indices: {
        [BY_REPOSITORY]: ({ spec }) => [spec.repositoryRef.name],
        [TO_FORGET]: toForget,
        [BY_MACHINE]: ({ spec }) => [machineKey(spec.repositoryRef.name, spec.vm)],
      },
    }),
    namespaces: slim(namespaces),
    agentPods: follow(pods, {
      labelSelector: "thinstream.dev/work",
      indices: {
        [BY_RUN]: ({ metadata }) => valueOf(metadata.labels, "thinstream.dev/run"),
        [BY_OWNER]: ({ metadata }) => valueOf(metadata.annotations, "thinstream.dev/owner"),
      },
    }),
    machines: hasKubevirt ? slim(machines) : null,
    instances: hasKubevirt ? slim<Loose>(instances) : null,
  };
}

function valueOf(values: Readonly<Record<string, string>> | undefined, name: string): readonly string[] {
  const value = values?.[name];
  return value === undefined ? [] : [value];
}

/** A thousand machines' specifications are not kept in memory: what a run needs of them is asked for when it begins. */
function onlyMetadata<T extends KubeObject>(object: T): T {
  const { name, namespace, uid, resourceVersion, labels, annotations, creationTimestamp, deletionTimestamp } = object.metadata;
  const kept = {
    name,
    namespace,
    uid,
    resourceVersion,
    labels,
    creationTimestamp,
    deletionTimestamp,
    annotations: undefined as typeof annotations,
  };
  const metadata = Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined));
  return { apiVersion: object.apiVersion, kind: object.kind, metadata } as unknown as T;
}

/** Whether the cluster has KubeVirt's kinds, once it does; false where `signal` aborts before. Asks once a minute, and takes no answer for no. */
export async function kubevirtServed(client: KubeClient, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    await systemClock.sleep(KUBEVIRT_MS, signal).catch(() => undefined);
    if (!signal.aborted && (await isServed(client, machines, signal).catch(() => false))) return true;
  }
  return false;
}

async function isServed(client: KubeClient, kind: ResourceKind, signal: AbortSignal): Promise<boolean> {
  try {
    for await (const _ of client.list(kind, { limit: 1, signal })) break;
    return true;
  } catch (thrown) {
    if (isKubeError(thrown, "not-found")) return false;
    throw thrown;
  }
}
