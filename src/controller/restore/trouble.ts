import type { AgentResult } from "../../api/index.ts";
import type { RestoreDecision } from "../plan/kubevirt/restore-request.ts";
import type { Preparation } from "../runs/run.ts";

type Refusal = Omit<Extract<Preparation, { readonly kind: "refuse" }>, "kind">;
type Failure = Extract<AgentResult, { readonly outcome: "Failed" }>;

/** How an agent's reasons read on a request; the others are what more attempts came to nothing for. */
const REASONS: Readonly<Record<string, string>> = {
  DeadlineExceeded: "DeadlineExceeded",
  PointNotFound: "RestorePointNotFound",
  PointDamaged: "RepositoryDamaged",
  RepositoryDamaged: "RepositoryDamaged",
  DiskNotFound: "DiskNotFound",
  TargetTooSmall: "TargetTooSmall",
  WorkOrderTampered: "WorkOrderRejected",
  WorkOrderInvalid: "WorkOrderRejected",
  Cancelled: "Cancelled",
};

export function reasonOf(failure: string): string {
  return REASONS[failure] ?? "BackoffLimitExceeded";
}

/** Why a point could not be read, where trying again is no help. What concerns the whole repository is for somebody to put right. */
export function refusalOfInspection({ reason, message }: Failure): Refusal {
  const said = reasonOf(reason);
  const isOfPoint = said === "RestorePointNotFound" || said === "RepositoryDamaged" || said === "WorkOrderRejected";
  return isOfPoint ? { reason: said, message, final: true } : { reason: "RepositoryNotReady", message, final: false };
}

/** Somebody can free a name, stop a machine, add a class or enlarge a volume; what the point does not have, it never will. */
const finalRefusals = new Set(["VirtualMachineNotInPoint", "DiskNotFound"]);

/** @param existing what is to become of a machine that is there: `Fail` means it */
export function refusalOfPlan(
  { reason, message }: Extract<RestoreDecision, { readonly kind: "refuse" }>,
  { machineThere }: { readonly machineThere: boolean },
): Refusal {
  return { reason, message, final: finalRefusals.has(reason) || (reason === "TargetExists" && machineThere) };
}
