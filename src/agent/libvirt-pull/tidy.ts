import { parseDomain } from "../../libvirt/index.ts";
import { lockMachine } from "../machine-lock.ts";
import { DomainSession } from "./domain-session.ts";
import { clearLeftovers } from "./leftovers.ts";
import type { LibvirtPullOptions } from "./options.ts";
import { RUNTIME_DIR, thawsByLibvirt } from "./prepare.ts";

export type TidyOptions = Pick<
  LibvirtPullOptions,
  "uri" | "domain" | "runtimeDir" | "repoTag" | "committed" | "freezer" | "signal" | "log"
>;

/**
 * Removes what a killed run left in libvirt and on the host, for a run that makes no point of its own. Of our checkpoints only those in `committed`
 * stay. A domain that does not run has nothing to remove.
 */
export async function tidyDomain(options: TidyOptions): Promise<void> {
  const session = await DomainSession.open(options);
  try {
    const { domain } = session;
    if (!(await domain.isActive(options.signal))) return;
    const description = parseDomain(await domain.xml({ signal: options.signal }));
    const { uuid, name } = description;
    const unlock = await lockMachine(uuid, name);
    try {
      const runtimeDir = options.runtimeDir ?? RUNTIME_DIR;
      const { repoTag, log, committed } = options;
      const known = new Set(committed);
      await clearLeftovers(domain, { name, uuid, runtimeDir, repoTag, known, hasAgent: thawsByLibvirt(description, options), log });
    } finally {
      await unlock();
    }
  } finally {
    await session.close();
  }
}
