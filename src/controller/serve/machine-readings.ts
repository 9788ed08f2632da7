import { durationMs } from "../../api/index.ts";
import type { Reading } from "./reading.ts";

/** How well machines are protected, by the restore points that are mirrored from the buckets. */
export const machineReadings: readonly Reading[] = [
  {
    name: "backup_last_successful_timestamp_seconds",
    type: "gauge",
    help: "When the newest restore point of a virtual machine was made, in any repository, in seconds of the epoch; 0 where a policy selects it and it has none. A libvirt domain has an empty namespace.",
    labels: ["namespace", "vm"],
    *read({ machines }) {
      for (const { namespace, vm, newest } of machines) yield { labels: { namespace, vm }, value: newest };
    },
  },
  {
    name: "vm_rpo_breached",
    type: "gauge",
    help: "1 where a virtual machine's newest restore point in its policy's repository is older than the policy's rpo, or where it has none though it is there for longer than that; else 0. Only for policies with an rpo.",
    labels: ["policy", "namespace", "vm"],
    *read({ policies }) {
      for (const { policy, machines } of policies.filter(({ policy: { spec } }) => spec.rpo !== undefined)) {
        for (const { machine, protection } of machines) {
          const labels = { policy: policy.metadata.name, namespace: machine.namespace, vm: machine.name };
          yield { labels, value: protection.breached ? 1 : 0 };
        }
      }
    },
  },
  {
    name: "policy_matched_vms",
    type: "gauge",
    help: "Virtual machines that a policy selects, those counted in that another policy backs up instead.",
    labels: ["policy"],
    *read({ policies }) {
      for (const { policy, matched } of policies) yield { labels: { policy: policy.metadata.name }, value: matched };
    },
  },
  {
    name: "policy_protected_vms",
    type: "gauge",
    help: "Of the virtual machines that a policy selects, those with a restore point that is young enough for its rpo, in a repository whose catalog could be read.",
    labels: ["policy"],
    *read({ policies }) {
      for (const { policy, machines } of policies) {
        const value = machines.filter(({ protection }) => protection.status === "True").length;
        yield { labels: { policy: policy.metadata.name }, value };
      }
    },
  },
  {
    name: "policy_rpo_seconds",
    type: "gauge",
    help: "The rpo that a policy promises.",
    labels: ["policy"],
    *read({ policies }) {
      for (const { policy } of policies) {
        const { rpo } = policy.spec;
        if (rpo !== undefined) yield { labels: { policy: policy.metadata.name }, value: durationMs(rpo) / 1000 };
      }
    },
  },
];
