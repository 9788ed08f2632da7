import type { DomainDescription } from "../../libvirt/index.ts";
import { beginJob } from "./begin.ts";
import { newCheckpointName } from "./checkpoint-name.ts";
import { type Freezer, type FreezeReport, whileFrozen } from "./freeze.ts";
import { LibvirtFreezer, notRunning } from "./libvirt-freezer.ts";
import type { LibvirtPullOptions } from "./options.ts";
import type { DiskPlan } from "./plan.ts";
import type { PullRun } from "./run.ts";

const FREEZE_TIMEOUT = 60; // seconds

export interface InstantRequest {
  readonly description: DomainDescription;
  readonly plans: readonly DiskPlan[];
  readonly options: LibvirtPullOptions;
}

/** The instant of the backup: what was carried out at it. */
export interface Instant {
  readonly plans: readonly DiskPlan[];
  readonly checkpoint: string | null;
  readonly freeze: FreezeReport;
}

/** Begins the job, frozen where policy and guest allow it. Rejects as `whileFrozen` and `beginJob` do, with the guest thawed. */
export async function takeInstant(run: PullRun, { description, plans, options }: InstantRequest): Promise<Instant> {
  const { domain } = run.session;
  const { level, signal, onStep } = options;
  const checkpoint = level === "copy" || level === "differential" ? null : newCheckpointName(options.repoTag, new Date());
  const steps = { onFrozen: async () => onStep?.("frozen"), onThawed: async () => onStep?.("thawed") };
  let carriedOut = plans;
  const freeze = await whileFrozen(freezerOf(run, description, options), options.quiesce, steps, async () => {
    signal.throwIfAborted();
    run.beginning(checkpoint);
    const scratchOf = (disk: string): string => run.dir.scratchOf(disk);
    carriedOut = await beginJob(domain, plans, { domainName: description.name, socket: run.dir.socket, scratchOf, checkpoint });
    await onStep?.("begun");
  });
  signal.throwIfAborted();
  return { plans: carriedOut, checkpoint, freeze };
}

function freezerOf({ session }: PullRun, description: DomainDescription, options: LibvirtPullOptions): Freezer {
  const { freezer } = options;
  if (freezer === undefined) {
    return new LibvirtFreezer(session.domain, {
      mountPoints: options.freezeMountpoints ?? [],
      timeout: options.freezeTimeout ?? FREEZE_TIMEOUT,
      hasAgent: description.hasAgentChannel,
    });
  }
  return {
    // A paused guest's agent does not answer, and whoever freezes it would wait for that in vain.
    obstacle: async () => (await notRunning(session.domain)) ?? (await freezer.obstacle()),
    freeze: async () => await freezer.freeze(),
    thaw: async () => await freezer.thaw(),
  };
}
