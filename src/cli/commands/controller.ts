import { readFile } from "node:fs/promises";
import { hostname } from "node:os";

import { type ControllerConfigFile, parseControllerConfig } from "../../api/index.ts";
import { type ControllerConfig, runController } from "../../controller/index.ts";
import { connectKube } from "../../kube/index.ts";
import { createLogger } from "../../lib/log.ts";
import type { Context, Outcome } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";

export interface ControllerFlags {
  readonly config: string;
  readonly kubeconfig?: string;
}

/** `thinstream controller`: the operator's control plane, until SIGTERM. */
export async function controller({ config: path, kubeconfig }: ControllerFlags, { signal }: Context): Promise<Outcome> {
  const config = configOf(parseControllerConfig(await readFile(path, "utf8")));
  const log = createLogger({ level: "info" });
  const client = await connectKube({ qps: 300, burst: 600, ...(kubeconfig === undefined ? {} : { kubeconfig }) });
  try {
    await runController({ client, config, log, signal, onLeading: () => log.info({ identity: config.identity }, "leading") });
  } catch (thrown) {
    // SIGTERM is how a controller ends; anything else is not.
    if (!signal.aborted) throw thrown;
  } finally {
    client.close();
  }
  return { json: {}, text: "", exitCode: ExitCode.ok };
}

function configOf({ namespace, agent, ...file }: ControllerConfigFile): ControllerConfig {
  return {
    namespace,
    identity: process.env["POD_NAME"] ?? `${hostname()}-${process.pid}`,
    kubeletRoot: file.kubeletRoot,
    agentPort: file.agentPort,
    metricsPort: file.metricsPort ?? 8080,
    maxAgents: file.maxAgents,
    syncMs: file.syncSeconds * 1000,
    pods: {
      operatorNamespace: namespace,
      image: file.image,
      imagePullPolicy: file.imagePullPolicy,
      imagePullSecrets: file.imagePullSecrets,
      priorityClassName: agent.priorityClassName,
      tolerations: agent.tolerations,
      agentResources: agent.resources,
      holderResources: agent.holderResources,
      agentServiceAccount: agent.serviceAccount,
      selinuxType: agent.selinuxType,
    },
  };
}
