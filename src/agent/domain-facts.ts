import { createHash } from "node:crypto";

import { LibvirtConnection, parseDomain } from "../libvirt/index.ts";
import { type Repository, vmId } from "../repository/index.ts";
import { nameOf } from "./libvirt-pull/plan.ts";

/** What a run must know of a domain before it opens its disks. */
export interface DomainFacts {
  readonly uuid: string;
  /** Names, in the point, of the disks whose changes can be tracked. */
  readonly disks: readonly string[];
}

export interface FactOptions {
  /** by alias */
  readonly diskNames?: ReadonlyMap<string, string>;
  readonly signal: AbortSignal;
}

/** UUID and disks of a domain. Rejects `no-domain` where there is none of that name. */
export async function factsOfDomain(uri: string, name: string, { diskNames, signal }: FactOptions): Promise<DomainFacts> {
  const connection = await LibvirtConnection.connect(uri, { signal });
  try {
    const domain = await connection.lookupByName(name);
    const { uuid, disks } = parseDomain(await domain.xml({ signal }));
    return {
      uuid,
      disks: disks.filter(({ device, format }) => device === "disk" && format === "qcow2").map((disk) => nameOf(disk, diskNames)),
    };
  } finally {
    await connection.close();
  }
}

/** Eight hex digits that stand for a repository and a machine in it, in the names of our checkpoints: two repositories never touch each other's. */
export function repoTag(repository: Repository, vm: string): string {
  return createHash("sha256").update(repository.config.id).update(vmId(repository.keys, vm)).digest("hex").slice(0, 8);
}
