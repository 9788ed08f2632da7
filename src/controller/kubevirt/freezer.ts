import type { KubeClient } from "../../kube/index.ts";
import type { GuestFreezer } from "../agents/follower.ts";
import { instanceActions } from "../kinds.ts";

/** Freezes a guest through KubeVirt, which keeps account of it and thaws it by itself in the end. */
export function instanceFreezer(
  client: KubeClient,
  instance: { readonly namespace: string; readonly name: string },
  seconds: number,
): GuestFreezer {
  return {
    freeze: async (signal) => {
      const until = new Date(Date.now() + seconds * 1000);
      await client.putSubresource(instanceActions, instance, "freeze", {
        body: { unfreezeTimeout: `${seconds}s` },
        signal,
        timeoutMs: seconds * 1000,
      });
      return until;
    },
    thaw: async (signal) => {
      await client.putSubresource(instanceActions, instance, "unfreeze", { signal });
    },
  };
}
