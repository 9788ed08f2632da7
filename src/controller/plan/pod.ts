import { createHash } from "node:crypto";
import { labelValue } from "../../api/index.ts";
import { InvalidValueError } from "../../lib/invalid-value.ts";
import type { HostMount } from "./kubevirt/host-paths.ts";
import { shortHash } from "./naming/names.ts";
import type { ObjectMeta, PodManifest, PodSettings, SecretManifest, WorkKind, WorkOwner } from "./pod-manifest.ts";

/** What an agent's pod is made from. */
export interface AgentPod {
  readonly work: WorkKind;
  readonly owner: WorkOwner;
  /** Name of the BackupRepository. */
  readonly repository: string;
  /** Null: any node will do, as for work without disks. */
  readonly node: string | null;
  /** of the order, as `orderSecret` gives it */
  readonly digest: string;
  /** Names of the files beside the order, as `orderSecret` has them. */
  readonly files: readonly string[];
  /** Secrets in the operator's namespace; null: the node's own credentials, no encryption. */
  readonly credentialsSecret: string | null;
  readonly keySecret: string | null;
  readonly mounts: readonly HostMount[];
  readonly channelPort: number;
  readonly deadlineSeconds: number;
}

const orderDirectory = "/run/thinstream/order";
const runDirectory = "/var/tmp";
const keyDirectory = "/run/thinstream/key";
/** A file of the order: certificates of a store's own authority. */
export const caFile = "ca.pem";
/** The API server takes Secrets up to 1 MiB; names and metadata have a share. */
const MAX_ORDER_BYTES = 1_000_000;
/** A stop undoes a job in libvirt, thaws the guest and removes the scratch files. */
const GRACE_SECONDS = 60;
const NOBODY = 65_532;

/** The name of a pod and its Secret: the same for the same attempt, so that a controller that starts anew finds them. */
export function workName(work: WorkKind | "hold", { uid, attempt }: Pick<WorkOwner, "uid" | "attempt">): string {
  return `ts-${work}-${shortHash(uid, 10)}-${attempt}`;
}

/** The Secret that carries an order and its files, and the order's digest. Throws `InvalidValueError` where it is more than a Secret holds. */
export function orderSecret(
  order: string,
  files: Readonly<Record<string, string>>,
  {
    work,
    owner,
    repository,
    node,
    settings,
  }: Pick<AgentPod, "work" | "owner" | "repository" | "node"> & { readonly settings: PodSettings },
): { readonly secret: SecretManifest; readonly digest: string } {
  const contents = Object.entries({ "order.json": order, ...files }).map(([name, text]) => [name, Buffer.from(text, "utf8")] as const);
  const data = Object.fromEntries(contents.map(([name, bytes]) => [name, bytes.toString("base64")]));
  const size = contents.reduce((sum, [, bytes]) => sum + bytes.length, 0);
  if (size > MAX_ORDER_BYTES) {
    throw new InvalidValueError(
      `the objects of ${owner.namespace}/${owner.name} have ${size} bytes, more than a Secret can carry to the agent`,
      {
        hint: `they may have ${MAX_ORDER_BYTES} bytes together; look for a large ConfigMap or Secret among the machine's volumes`,
      },
    );
  }
  const metadata = metadataOf(work, { owner, repository, node, namespace: settings.operatorNamespace });
  const digest = `sha256:${createHash("sha256").update(order, "utf8").digest("hex")}`;
  return { secret: { apiVersion: "v1", kind: "Secret", metadata, type: "Opaque", immutable: true, data }, digest };
}

/** The pod that does one piece of work: where a machine's disks are, with what that needs and nothing else. */
export function agentPod(pod: AgentPod, settings: PodSettings): PodManifest {
  const metadata = metadataOf(pod.work, { ...pod, namespace: settings.operatorNamespace });
  const hostVolumes = pod.mounts.map((mount) => ({ name: mount.name, hostPath: { path: mount.hostPath, type: mount.type } }));
  const hostMounts = pod.mounts.map((mount) => ({
    name: mount.name,
    mountPath: mount.mountPath,
    ...(mount.readOnly ? { readOnly: true } : {}),
  }));
  // Where an image's NBD socket goes. A node's libvirt has to find it: then it is the node's own.
  const ownRunDirectory = !pod.mounts.some(({ mountPath }) => mountPath === runDirectory);
  const runMounts = ownRunDirectory ? [{ name: "run", mountPath: runDirectory }] : [];
  const runVolumes = ownRunDirectory ? [{ name: "run", emptyDir: { sizeLimit: "64Mi" } }] : [];
  const key =
    pod.keySecret === null
      ? []
      : [secretVolume("key", pod, { secretName: pod.keySecret, items: [{ key: "thinstream.key", path: "key" }] })];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec: {
      ...commonSpec(settings, pod.deadlineSeconds),
      ...(settings.imagePullSecrets.length === 0 ? {} : { imagePullSecrets: settings.imagePullSecrets.map((name) => ({ name })) }),
      ...(settings.agentServiceAccount === null ? {} : { serviceAccountName: settings.agentServiceAccount }),
      ...(pod.node === null ? {} : { affinity: pinnedTo(pod.node) }),
      terminationGracePeriodSeconds: GRACE_SECONDS,
      securityContext: {
        ...userOf(pod),
        seccompProfile: { type: "RuntimeDefault" },
        ...(settings.selinuxType === null || pod.mounts.length === 0 ? {} : { seLinuxOptions: { type: settings.selinuxType } }),
      },
      containers: [
        {
          ...commonContainer("agent", settings),
          args: ["agent", "--order", `${orderDirectory}/order.json`, "--digest", pod.digest, "--termination-log", "/dev/termination-log"],
          env: environmentOf(pod),
          ports: [{ name: "channel", containerPort: pod.channelPort, protocol: "TCP" }],
          resources: settings.agentResources,
          securityContext: containerSecurity(pod),
          volumeMounts: [
            { name: "order", mountPath: orderDirectory, readOnly: true },
            ...(pod.keySecret === null ? [] : [{ name: "key", mountPath: keyDirectory, readOnly: true }]),
            { name: "tmp", mountPath: "/tmp" },
            ...runMounts,
            ...hostMounts,
          ],
        },
      ],
      // Sockets, XML and lists of changes, never disk data.
      volumes: [
        secretVolume("order", pod, { secretName: metadata.name }),
        ...key,
        { name: "tmp", emptyDir: { sizeLimit: "256Mi" } },
        ...runVolumes,
        ...hostVolumes,
      ],
    },
  };
}

/** Labels and annotation of everything made for a piece of work. */
export function metadataOf(
  work: WorkKind | "hold",
  {
    owner,
    repository,
    node,
    namespace,
  }: { readonly owner: WorkOwner; readonly repository: string; readonly node: string | null; readonly namespace: string },
): ObjectMeta {
  return {
    name: workName(work, owner),
    namespace,
    labels: {
      "app.kubernetes.io/name": "thinstream",
      "app.kubernetes.io/component": work === "hold" ? "holder" : "agent",
      "thinstream.dev/run": owner.uid,
      "thinstream.dev/work": work,
      "thinstream.dev/repository": labelValue(repository),
      ...(node === null ? {} : { "thinstream.dev/node": labelValue(node) }),
    },
    annotations: { "thinstream.dev/owner": `${owner.kind}/${owner.namespace}/${owner.name}` },
  };
}

/** What agents and holders have in common. */
export function commonSpec(
  settings: PodSettings,
  deadlineSeconds: number,
): Omit<PodManifest["spec"], "containers" | "volumes" | "securityContext" | "terminationGracePeriodSeconds"> {
  return {
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    activeDeadlineSeconds: Math.max(1, Math.ceil(deadlineSeconds)),
    ...(settings.priorityClassName === null ? {} : { priorityClassName: settings.priorityClassName }),
    ...(settings.tolerations.length === 0 ? {} : { tolerations: settings.tolerations }),
  };
}

export function commonContainer(
  name: string,
  { image, imagePullPolicy }: PodSettings,
): Pick<
  PodManifest["spec"]["containers"][0],
  "name" | "image" | "imagePullPolicy" | "terminationMessagePath" | "terminationMessagePolicy"
> {
  return {
    name,
    image,
    imagePullPolicy,
    terminationMessagePath: "/dev/termination-log",
    terminationMessagePolicy: "FallbackToLogsOnError",
  };
}

/** By the node's name, not its host name label, which may be another's; through the scheduler, so that resources and taints count. */
export function pinnedTo(node: string): object {
  const term = { matchFields: [{ key: "metadata.name", operator: "In", values: [node] }] };
  return { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] } } };
}

/** Work without a machine's directories needs no root. */
function userOf({ mounts }: AgentPod): object {
  return mounts.length > 0
    ? { runAsUser: 0, runAsGroup: 0 }
    : { runAsNonRoot: true, runAsUser: NOBODY, runAsGroup: NOBODY, fsGroup: NOBODY };
}

/**
 * What a container may do. Sockets and images belong to QEMU's user (107), mode 0700 and 0660: DAC_OVERRIDE opens them. A backup gives its socket's
 * and scratch's directory to that user, a restore its files: CHOWN, and FOWNER for their modes. A block device that the agent itself opens needs the container to be privileged, for no smaller
 * right lets a pod open a device of the node.
 */
function containerSecurity(pod: AgentPod): object {
  if (opensDevices(pod)) return { privileged: true, readOnlyRootFilesystem: true };
  const add = pod.mounts.length === 0 ? [] : ["DAC_OVERRIDE", "CHOWN", "FOWNER"];
  return {
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"], ...(add.length === 0 ? {} : { add }) },
  };
}

/** Where a machine runs, QEMU opens its devices, and the agent reads them over NBD. */
function opensDevices({ mounts }: AgentPod): boolean {
  return mounts.some(({ type, mountPath }) => type === "BlockDevice" && !mountPath.startsWith("/dev/"));
}

function environmentOf({ credentialsSecret, files }: AgentPod): readonly object[] {
  const entry = (key: string, optional: boolean): object => ({
    name: key,
    valueFrom: { secretKeyRef: { name: credentialsSecret, key, ...(optional ? { optional } : {}) } },
  });
  return [
    // libvirt's client and others want a home that can be written to.
    { name: "HOME", value: "/tmp" },
    // The channel is opened on this address alone.
    { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
    ...(files.includes(caFile) ? [{ name: "NODE_EXTRA_CA_CERTS", value: `${orderDirectory}/${caFile}` }] : []),
    ...(credentialsSecret === null
      ? []
      : [entry("AWS_ACCESS_KEY_ID", false), entry("AWS_SECRET_ACCESS_KEY", false), entry("AWS_SESSION_TOKEN", true)]),
  ];
}

/** Read by its owner; by its group where the agent is not root. */
function secretVolume(name: string, { mounts }: AgentPod, secret: object): object {
  return { name, secret: { ...secret, defaultMode: mounts.length > 0 ? 0o400 : 0o440 } };
}
