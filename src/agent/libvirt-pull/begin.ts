import { backupXml, checkpointXml, type LibvirtDomain, LibvirtError, withoutParent } from "../../libvirt/index.ts";
import { errorText } from "../../lib/errors.ts";
import { SourceError } from "../errors.ts";
import { busy } from "../machine-lock.ts";
import { type DiskPlan, withoutBase } from "./plan.ts";

/** Makes libvirt know every checkpoint that the plans stand on; a plan whose checkpoint cannot be had falls back to reading everything. */
export async function defineBases(domain: LibvirtDomain, plans: readonly DiskPlan[]): Promise<readonly DiskPlan[]> {
  const known = new Set(await domain.checkpointNames());
  const failed = new Map<string, string>();
  for (const { base } of plans) {
    if (base === null || known.has(base.checkpoint) || failed.has(base.checkpoint)) continue;
    const problem = await redefine(domain, base.checkpointXml);
    if (problem === null) known.add(base.checkpoint);
    else failed.set(base.checkpoint, problem);
  }
  return plans.map((plan) => {
    const problem = plan.base === null ? undefined : failed.get(plan.base.checkpoint);
    return problem === undefined ? plan : withoutBase(plan, `libvirt no longer knows checkpoint ${plan.base?.checkpoint}: ${problem}`);
  });
}

async function redefine(domain: LibvirtDomain, xml: string | null): Promise<string | null> {
  if (xml === null) return "its description was not kept";
  try {
    const checkpoint = await domain.redefineCheckpoint(withoutParent(xml), { validate: false });
    await checkpoint.close();
    return null;
  } catch (error) {
    if (error instanceof LibvirtError && error.code !== "unreachable") return errorText(error);
    throw error;
  }
}

export interface BeginRequest {
  readonly domainName: string;
  readonly socket: string;
  readonly scratchOf: (disk: string) => string;
  /** null: no checkpoint is made */
  readonly checkpoint: string | null;
}

/**
 * Begins the job, with the checkpoint in the same instant. A disk whose bitmap is lost or broken falls back alone to reading
 * everything: libvirt names one such disk a try, so there are at most as many tries as disks. Resolves with the plans carried out.
 */
export async function beginJob(domain: LibvirtDomain, plans: readonly DiskPlan[], request: BeginRequest): Promise<readonly DiskPlan[]> {
  const tracked = plans.filter((plan) => plan.tracked).map((plan) => plan.target);
  const checkpoint = request.checkpoint === null || tracked.length === 0 ? null : checkpointXml(request.checkpoint, tracked);
  for (let current = plans; ;) {
    const disks = current.map(({ target, base }) => ({
      name: target,
      scratch: request.scratchOf(target),
      since: base?.checkpoint ?? null,
    }));
    try {
      await domain.backupBegin(backupXml(request.socket, disks), checkpoint);
      return current;
    } catch (error) {
      current = fallBack(current, error, request.domainName);
    }
  }
}

/** The plans for the next try. Throws the error where it is about something else than a lost bitmap. */
function fallBack(plans: readonly DiskPlan[], error: unknown, domainName: string): readonly DiskPlan[] {
  if (!(error instanceof LibvirtError)) throw error;
  if (error.code === "timeout") throw busy(domainName, error);
  const standing = plans.filter((plan) => plan.base !== null);
  if (standing.length === 0 || !isAboutBitmaps(error)) throw asSourceError(error, domainName);
  const named = /disk '([^']+)'/.exec(error.libvirtMessage)?.[1];
  const lost = standing.some((plan) => plan.target === named) ? new Set([named]) : new Set(standing.map((plan) => plan.target));
  return plans.map((plan) =>
    plan.base !== null && lost.has(plan.target) ? withoutBase(plan, `its change tracking was lost: ${error.libvirtMessage}`) : plan,
  );
}

function isAboutBitmaps(error: LibvirtError): boolean {
  return error.code === "checkpoint-inconsistent" || error.code === "no-checkpoint" || /bitmap|checkpoint/i.test(error.libvirtMessage);
}

function asSourceError(error: LibvirtError, domainName: string): Error {
  if (!/incremental backup is not supported|backup is not supported/i.test(error.libvirtMessage)) return error;
  return unsupported(`domain "${domainName}" cannot be backed up while it runs: ${error.libvirtMessage}`, error);
}

/** The error of a hypervisor that is too old, or another one. */
export function unsupported(message: string, cause?: unknown): SourceError {
  return new SourceError("unsupported-hypervisor", message, { cause, hint: "live backup needs libvirt 7.2 and QEMU 4.2 or newer" });
}
