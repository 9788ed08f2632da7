import type { DomainDescription } from "../../libvirt/index.ts";
import { JobDir } from "../job-dir.ts";
import { lockMachine } from "../machine-lock.ts";
import type { DomainSession } from "./domain-session.ts";
import { clearLeftovers } from "./leftovers.ts";
import type { LibvirtPullOptions } from "./options.ts";
import { qemuOwner } from "./qemu-owner.ts";
import { PullRun } from "./run.ts";
import { checkScratch } from "./scratch-guard.ts";

export const RUNTIME_DIR = "/var/tmp";

/** Everything that makes or ends something of ours on the host, up to but without the job. */
export async function prepare(session: DomainSession, description: DomainDescription, options: LibvirtPullOptions): Promise<PullRun> {
  const { uuid, name } = description;
  const runtimeDir = options.runtimeDir ?? RUNTIME_DIR;
  const unlock = await lockMachine(uuid, name);
  try {
    const known = new Set([...options.committed, ...options.bases.map((base) => base.checkpoint)]);
    const { repoTag, log } = options;
    const hasAgent = thawsByLibvirt(description, options);
    await clearLeftovers(session.domain, { name, uuid, runtimeDir, repoTag, known, hasAgent, log });
    await options.onStep?.("leftovers-cleared");
    options.signal.throwIfAborted();
    await checkScratch(options.scratchDir ?? runtimeDir, options.scratchFloor);
    const owner = await qemuOwner(description, options.uri);
    const dir = await JobDir.make({ runtimeDir, scratchDir: options.scratchDir }, uuid, owner);
    await options.onStep?.("directory-made");
    return new PullRun({ session, dir, unlock, domainName: name, options });
  } catch (error) {
    await unlock();
    throw error;
  }
}

/** Somebody else who freezes keeps count of it, and thaws by a time limit of his own. */
export function thawsByLibvirt(description: DomainDescription, { freezer }: Pick<LibvirtPullOptions, "freezer">): boolean {
  return description.hasAgentChannel && freezer === undefined;
}
