import { setTimeout as sleep } from "node:timers/promises";
import type { Identity } from "../cluster/index.ts";
import type { Container, Pod } from "./index.ts";

/** Looks until it is good, a minute at most; gives what it saw last. */
export async function eventually<T>(look: () => Promise<T> | T, good: (found: T) => boolean): Promise<T> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = await look();
    if (good(found) || Date.now() > deadline) return found;
    await sleep(100);
  }
}

/** A pod that runs a shell script once, by its defaults in namespace `default`. */
export function scriptPod(
  name: string,
  script: string,
  more: { readonly container?: Partial<Container>; readonly spec?: object } = {},
): object {
  const container = { name: "main", image: "debian:13", command: ["sh", "-c", script], ...more.container };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: { restartPolicy: "Never", ...more.spec, containers: [container] },
  };
}

interface State {
  readonly waiting?: { readonly reason: string; readonly message?: string };
  readonly running?: object;
  readonly terminated?: { readonly exitCode: number; readonly reason: string; readonly message?: string };
}

export type SeenPod = Pod & {
  readonly status: NonNullable<Pod["status"]> & {
    readonly message?: string;
    readonly containerStatuses?: readonly { readonly state: State; readonly ready: boolean; readonly restartCount: number }[];
  };
};

export function stateOf(pod: SeenPod): State {
  return pod.status.containerStatuses?.[0]?.state ?? {};
}

/** The pod when it is as wanted, or a minute later as it is. */
export async function podWhen(admin: Identity, name: string, good: (pod: SeenPod) => boolean): Promise<SeenPod> {
  return await eventually(() => admin.get<SeenPod>("pod", name), good);
}

export function isOver(pod: SeenPod): boolean {
  return pod.status.phase === "Failed" || pod.status.phase === "Succeeded";
}

export function runs(pod: SeenPod): boolean {
  return stateOf(pod).running !== undefined;
}
