import { KubeClient } from "./client.ts";
import type { Credentials } from "./credentials.ts";
import { KubeError } from "./errors.ts";
import { type InClusterOptions, inClusterCredentials, isInCluster } from "./in-cluster.ts";
import { type KubeconfigOptions, hasKubeconfig, kubeconfigCredentials } from "./kubeconfig.ts";
import type { RequestOptions } from "./requests.ts";

export interface ConnectOptions extends KubeconfigOptions, RequestOptions {
  /** Where a pod finds its service account; for tests. */
  readonly inCluster?: InClusterOptions;
}

/**
 * A client as the kubeconfig that is named says, else that of KUBECONFIG, else as the pod's service account, else as `~/.kube/config` says.
 * Nothing is sent yet. Throws `KubeError` (`not-configured`).
 */
export async function connectKube(options: ConnectOptions = {}): Promise<KubeClient> {
  return new KubeClient(await credentials(options), options);
}

async function credentials({ kubeconfig, context, inCluster }: ConnectOptions): Promise<Credentials> {
  const named = kubeconfig !== undefined || context !== undefined || Boolean(process.env["KUBECONFIG"]);
  if (inCluster !== undefined || (!named && isInCluster())) return await inClusterCredentials(inCluster);
  if (named || hasKubeconfig()) return await kubeconfigCredentials({ kubeconfig, context });
  throw new KubeError("not-configured", "nothing says where the Kubernetes API is", {
    hint: "run in a pod with a service account, or name a kubeconfig by --kubeconfig or KUBECONFIG",
  });
}
