import type { LibvirtDomain } from "../../libvirt/index.ts";
import { errorText } from "../../lib/errors.ts";
import { AGENT_WITHOUT_LIMIT } from "../captures.ts";
import type { Consistency } from "../backup-source.ts";
import { SourceError } from "../errors.ts";

const THAW_TRIES = 3;

export interface FreezePolicy {
  readonly quiesce: "auto" | "required" | "never";
  readonly mountPoints: readonly string[];
  /** seconds */
  readonly timeout: number;
  readonly hasAgent: boolean;
}

/** How freezing went; kept with the point. */
export interface FreezeReport {
  readonly policy: string;
  readonly consistency: Consistency;
  readonly frozen: number;
  readonly thawed: number;
  /** ms from freeze to thaw */
  readonly frozenMs: number;
  /** why freezing was not tried though it was allowed: not a fault, `consistency` says what it means */
  readonly obstacle: string | null;
  /** how it failed when it was tried */
  readonly problem: string | null;
}

export interface FreezeSteps {
  readonly onFrozen: () => Promise<void>;
  readonly onThawed: () => Promise<void>;
}

/**
 * Runs `begin` with the guest's file systems frozen where policy and guest allow it, and thaws whatever happens. The freeze is
 * bounded by the agent's time limit. Rejects `freeze-failed` where freezing is required and fails, before `begin`.
 */
export async function whileFrozen(
  domain: LibvirtDomain,
  policy: FreezePolicy,
  steps: FreezeSteps,
  begin: () => Promise<void>,
): Promise<FreezeReport> {
  const obstacle = await obstacleTo(domain, policy);
  const report = { policy: policy.quiesce, frozen: 0, thawed: 0, frozenMs: 0 };
  if (obstacle !== null) {
    if (policy.quiesce === "required") throw refusal(obstacle);
    await begin();
    return { ...report, consistency: "crash", obstacle: policy.quiesce === "never" ? null : obstacle, problem: null };
  }
  await domain.agentTimeout(policy.timeout).catch(() => undefined); // an older driver waits as long as the agent does
  const began = Date.now();
  let frozen = 0;
  let problem: string | null = null;
  let thawed = 0;
  try {
    try {
      frozen = await domain.fsFreeze(policy.mountPoints);
      await steps.onFrozen();
    } catch (error) {
      if (policy.quiesce === "required") throw refusal(errorText(error), error);
      problem = errorText(error);
    }
    await begin();
  } finally {
    // Also after a failed freeze: the agent may have frozen after all, only too late to say so.
    const thaw = await thawSurely(domain);
    if (typeof thaw === "number") thawed = thaw;
    else problem ??= `the guest could not be thawed: ${thaw}`;
    await domain.agentTimeout(AGENT_WITHOUT_LIMIT).catch(() => undefined);
  }
  await steps.onThawed();
  const consistency = frozen > 0 && problem === null ? "filesystem" : "crash";
  return { ...report, consistency, frozen, thawed, frozenMs: Date.now() - began, obstacle: null, problem };
}

async function obstacleTo(domain: LibvirtDomain, policy: FreezePolicy): Promise<string | null> {
  if (policy.quiesce === "never") return "";
  const state = await domain.state();
  if (state !== "running" && state !== "blocked") return `the machine is ${state}, and only a running guest can be frozen`;
  return policy.hasAgent ? null : "the machine has no guest agent channel";
}

function refusal(reason: string, cause?: unknown): SourceError {
  return new SourceError("freeze-failed", `the guest's file systems could not be frozen: ${reason}`, {
    cause,
    hint: "install and start qemu-guest-agent in the guest, or use --quiesce auto",
  });
}

async function thawSurely(domain: LibvirtDomain): Promise<number | string> {
  let problem = "";
  for (let tries = 0; tries < THAW_TRIES; tries += 1) {
    try {
      return await domain.fsThaw();
    } catch (error) {
      problem = errorText(error);
    }
  }
  return problem;
}
