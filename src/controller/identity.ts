import type { KubeObject } from "../kube/index.ts";

/** What an object that came from the server certainly has. */
export interface Identity {
  readonly uid: string;
  /** empty for a resource of the cluster */
  readonly namespace: string;
  readonly name: string;
  readonly createdAt: Date;
}

export function identityOf({ metadata }: KubeObject): Identity {
  const { uid = "", namespace = "", name, creationTimestamp = 0 } = metadata;
  return { uid, namespace, name, createdAt: new Date(creationTimestamp) };
}
