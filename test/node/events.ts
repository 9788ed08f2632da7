import type { Api, KubeObject } from "./api.ts";
import { now } from "./container.ts";

let count = 0;

/** An event of the kubelet's about a pod. @throws ApiError */
export async function recordEvent(
  api: Api,
  { metadata }: KubeObject,
  { reason, message, node }: { readonly reason: string; readonly message: string; readonly node: string },
): Promise<void> {
  count += 1;
  const { namespace = "", name, uid } = metadata;
  await api.create(`/api/v1/namespaces/${namespace}/events`, {
    metadata: { name: `${name}.${process.pid.toString(16)}${count.toString(16)}`, namespace },
    involvedObject: { kind: "Pod", apiVersion: "v1", namespace, name, uid },
    reason,
    message: message.slice(0, 1000),
    type: "Warning",
    source: { component: "kubelet", host: node },
    firstTimestamp: now(),
    lastTimestamp: now(),
    count: 1,
  });
}
