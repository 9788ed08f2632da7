import { randomBytes } from "node:crypto";

import type { BackupRepository, WorkOrder } from "../../api/index.ts";
import type { ControllerConfig } from "../config.ts";
import { agentPod, caFile, orderSecret } from "../plan/pod.ts";
import type { WorkOwner } from "../plan/pod-manifest.ts";
import type { AgentJob, AgentObjects } from "./job.ts";

const KEY_FILE = "/run/thinstream/key/key";

/** A job's Secret and pod. The channel's key is a new one each time: pod and Secret are made together. */
export function agentObjects(job: AgentJob, config: ControllerConfig): AgentObjects {
  const { repository, work, nodeName: node } = job;
  const { name } = repository.metadata;
  const { caBundle } = repository.spec.s3;
  const owner = ownerOf(job);
  const files = { ...job.files, ...(caBundle === undefined ? {} : { [caFile]: caBundle }) };
  const settings = config.pods;
  const { secret, digest } = orderSecret(JSON.stringify(orderOf(job, owner, config)), files, {
    work: work.type,
    owner,
    repository: name,
    node,
    settings,
  });
  const pod = agentPod(
    {
      work: work.type,
      owner,
      repository: name,
      node,
      digest,
      files: Object.keys(files),
      credentialsSecret: credentialsOf(repository, work.type),
      keySecret: repository.spec.encryption.keySecretRef?.name ?? null,
      mounts: job.mounts,
      channelPort: config.agentPort,
      deadlineSeconds: Math.max(60, (job.deadline.getTime() - Date.now()) / 1000),
    },
    settings,
  );
  const annotated = { ...pod, metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, ...job.annotations } } };
  return { secret, pod: annotated };
}

export function ownerOf({ owner: { kind, metadata }, attempt }: Pick<AgentJob, "owner" | "attempt">): WorkOwner {
  return { uid: metadata.uid ?? "", kind, namespace: metadata.namespace ?? "", name: metadata.name, attempt };
}

const MAINTENANCE: ReadonlySet<AgentJob["work"]["type"]> = new Set(["forget", "lock", "prune"]);

/** Only what takes away, and what puts locks, gets the credential that may. */
function credentialsOf({ spec }: BackupRepository, work: AgentJob["work"]["type"]): string {
  const maintenance = MAINTENANCE.has(work) ? spec.maintenance.credentialsSecretRef : undefined;
  return (maintenance ?? spec.s3.credentialsSecretRef).name;
}

function orderOf(
  { work, repository, deadline, uploadBytesPerSecond }: AgentJob,
  { uid, kind, namespace, name, attempt }: WorkOwner,
  config: ControllerConfig,
): WorkOrder {
  return {
    version: 1,
    run: { uid, kind, namespace, name, attempt },
    repository: { url: urlOf(repository), keyFile: repository.spec.encryption.mode === "ClientSide" ? KEY_FILE : null },
    deadline: deadline.toISOString(),
    uploadBytesPerSecond,
    channel: { port: config.agentPort, key: randomBytes(32).toString("base64") },
    work,
  };
}

/** The repository's location as the command line has it. */
export function urlOf({ spec: { s3 } }: BackupRepository): string {
  const parameters = new URLSearchParams();
  if (s3.endpoint !== undefined) parameters.set("endpoint", s3.endpoint);
  if (s3.region !== undefined) parameters.set("region", s3.region);
  if (s3.pathStyle !== undefined) parameters.set("path-style", String(s3.pathStyle));
  const query = parameters.toString();
  return `s3://${s3.bucket}${s3.prefix === undefined ? "" : `/${s3.prefix}`}${query === "" ? "" : `?${query}`}`;
}
