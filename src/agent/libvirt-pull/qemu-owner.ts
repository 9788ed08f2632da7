import { stat } from "node:fs/promises";
import type { DomainDescription } from "../../libvirt/index.ts";

/**
 * User and group that QEMU runs as: libvirt says so for a domain of the system's daemon. A session's daemon (KubeVirt's) runs as the same user as its
 * QEMU, which then owns its socket. Null where neither tells.
 */
export async function qemuOwner(description: DomainDescription, uri: string): Promise<DomainDescription["owner"]> {
  if (description.owner !== null) return description.owner;
  const socket = URL.canParse(uri) ? new URL(uri).searchParams.get("socket") : null;
  if (socket === null) return null;
  const found = await stat(socket).catch(() => null);
  return found === null || found.uid === 0 ? null : { uid: found.uid, gid: found.gid };
}
