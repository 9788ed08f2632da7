import { annotations, type BackupPolicy, rfc3339, type VirtualMachineBackup } from "../../api/index.ts";
import type { Caches, ControllerContext } from "../context.ts";
import { windowVerdict } from "../plan/window.ts";
import type { Preparation, Stop } from "../runs/run.ts";

export const windowClosed = {
  reason: "WindowClosed",
  message: "the backup window of its policy closed before it was done",
  final: true,
} as const satisfies Stop;

/** Why its policy's window keeps a run from going on; null where it does not. */
export function outsideWindow(
  { caches, now }: ControllerContext,
  run: VirtualMachineBackup,
): (Preparation & { readonly kind: "wait" | "refuse" }) | null {
  const policy = scheduledBy(caches, run);
  if (policy?.window === undefined) return null;
  const begun = (run.status?.attempts ?? 0) > 0;
  const verdict = windowVerdict(policy.window, { timeZone: policy.timeZone ?? "UTC", now: now(), begun });
  if (verdict.kind === "go") return null;
  if (verdict.kind === "end") return { kind: "refuse", ...windowClosed };
  const message = `its policy's backup window opens at ${rfc3339(verdict.until)}`;
  return { kind: "wait", reason: "WaitingForWindow", message, againInMs: verdict.until.getTime() - now().getTime() };
}

/** The policy whose schedule made a run: one that a person or a trigger made heeds no window. */
function scheduledBy({ policies }: Caches, { metadata, spec }: VirtualMachineBackup): BackupPolicy["spec"] | undefined {
  if (metadata.annotations?.[annotations.scheduledAt] === undefined || spec.policyRef === undefined) return undefined;
  return policies.lister.get(spec.policyRef.name)?.spec;
}
