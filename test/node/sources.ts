import { ApiError, type Api, ignore } from "./api.ts";
import type { EnvFrom, EnvVar, KeyRef, Pod } from "./pod.ts";
import { podField } from "./pod.ts";

/** Why a container cannot be started yet; the kubelet tries again. */
export class NotYet extends Error {
  override readonly name: string = "NotYet";
  /** As the container's waiting state has it. */
  readonly reason: "CreateContainerConfigError" | "ContainerCreating";

  constructor(reason: NotYet["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

interface Keys {
  readonly data?: Readonly<Record<string, string>>;
  readonly binaryData?: Readonly<Record<string, string>>;
}

/** The keys of a Secret or ConfigMap; undefined when there is none and that is allowed. @throws NotYet */
export async function keysOf(
  api: Api,
  kind: "secrets" | "configmaps",
  wanted: { readonly namespace: string; readonly name: string; readonly optional?: boolean },
): Promise<Map<string, Buffer> | undefined> {
  const found = await api.get<Keys>(`/api/v1/namespaces/${wanted.namespace}/${kind}/${wanted.name}`).catch(ignore(404));
  if (found === undefined) {
    if (wanted.optional === true) return undefined;
    throw new NotYet("CreateContainerConfigError", `${kind.slice(0, -1)} "${wanted.name}" not found`);
  }
  const plain = Object.entries(found.data ?? {}).map(
    ([key, value]) => [key, Buffer.from(value, kind === "secrets" ? "base64" : "utf8")] as const,
  );
  const binary = Object.entries(found.binaryData ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64")] as const);
  return new Map([...plain, ...binary]);
}

const KIND = { secretKeyRef: "secrets", configMapKeyRef: "configmaps" } as const;

/** The environment of a pod's container, without what its image brings. @throws NotYet */
export async function environment(api: Api, pod: Pod, at: { readonly podIP: string }): Promise<Map<string, string>> {
  const container = pod.spec.containers[0];
  const made = new Map<string, string>();
  for (const from of container?.envFrom ?? []) await addAll(api, pod, { from, made });
  for (const one of container?.env ?? []) {
    const value = await valueOf(api, pod, one, at);
    if (value !== undefined) made.set(one.name, expand(value, made));
  }
  return made;
}

async function addAll(api: Api, { metadata }: Pod, { from, made }: { from: EnvFrom; made: Map<string, string> }): Promise<void> {
  const ref = from.secretRef ?? from.configMapRef;
  if (ref === undefined) return;
  const keys = await keysOf(api, from.secretRef === undefined ? "configmaps" : "secrets", { ...ref, namespace: metadata.namespace ?? "" });
  for (const [key, value] of keys ?? []) made.set(`${from.prefix ?? ""}${key}`, value.toString("utf8"));
}

async function valueOf(
  api: Api,
  pod: Pod,
  { name, value, valueFrom }: EnvVar,
  at: { readonly podIP: string },
): Promise<string | undefined> {
  if (valueFrom === undefined) return value ?? "";
  if (valueFrom.fieldRef !== undefined) {
    const field = podField(pod, valueFrom.fieldRef.fieldPath, at);
    if (field === undefined) throw new NotYet("CreateContainerConfigError", `env ${name}: no field ${valueFrom.fieldRef.fieldPath}`);
    return field;
  }
  for (const which of ["secretKeyRef", "configMapKeyRef"] as const) {
    const ref = valueFrom[which];
    if (ref !== undefined) return await keyOf(api, pod, { which, ref });
  }
  throw new NotYet("CreateContainerConfigError", `env ${name}: this simulator has no such source`);
}

async function keyOf(api: Api, { metadata }: Pod, { which, ref }: { which: keyof typeof KIND; ref: KeyRef }): Promise<string | undefined> {
  const keys = await keysOf(api, KIND[which], { ...ref, namespace: metadata.namespace ?? "" });
  const value = keys?.get(ref.key)?.toString("utf8");
  if (value === undefined && ref.optional !== true)
    throw new NotYet(
      "CreateContainerConfigError",
      `couldn't find key ${ref.key} in ${which === "secretKeyRef" ? "Secret" : "ConfigMap"} ${metadata.namespace}/${ref.name}`,
    );
  return value;
}

/** `$(NAME)` of a name that is known; `$$` is a dollar. */
export function expand(text: string, env: ReadonlyMap<string, string>): string {
  return text.replace(/\$(?:\$|\(([A-Za-z_][\w.-]*)\))/g, (whole, name: string | undefined) =>
    name === undefined ? "$" : (env.get(name) ?? whole),
  );
}

/** A refusal of the API server, said as something to try again. */
export function asNotYet(cause: unknown): NotYet {
  if (cause instanceof NotYet) return cause;
  if (cause instanceof ApiError) return new NotYet("ContainerCreating", cause.message);
  throw cause;
}
