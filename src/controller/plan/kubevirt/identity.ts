import { createHash } from "node:crypto";
import type { InstanceSpec, VirtualMachineInstance, VmInterface } from "./objects.ts";

/** The namespace KubeVirt takes the UUIDs of machines from that have none in their spec: by their name alone. */
const legacyNamespace = "6a1a24a1-4061-4607-8bf4-a3963d0c5895";
/** Ours, for UUIDs of copies. */
const copyNamespace = "c2ff4a8e-5f0a-5b55-9d0e-0f2f3f1a7d64";

type Firmware = NonNullable<NonNullable<InstanceSpec["domain"]>["firmware"]>;

/** What makes a restored machine itself. */
export interface Identity {
  readonly macAddresses: "Preserve" | "Regenerate";
  readonly firmwareUUID: "Preserve" | "Regenerate";
}

/** The firmware UUID of a machine that has none in its spec: KubeVirt before 1.6 made it of the name. */
export function legacyFirmwareUuid(name: string): string {
  return uuidV5(legacyNamespace, name);
}

/**
 * A machine's spec with the identity it is to have. What KubeVirt worked out at run time is written down where it is to stay; a new UUID
 * follows from the request, so that doing it again gives the same. MAC addresses are left to KubeVirt, or kubemacpool, to make.
 */
export function withIdentity(
  spec: InstanceSpec,
  { macAddresses, firmwareUUID }: Identity,
  { sourceName, vmi, seed }: { readonly sourceName: string; readonly vmi: VirtualMachineInstance | null; readonly seed: string },
): InstanceSpec {
  const { domain = {} } = spec;
  const firmware = firmwareUUID === "Preserve" ? { uuid: uuidOf(vmi, sourceName), ...domain.firmware } : newFirmware(domain.firmware, seed);
  const interfaces = domain.devices?.interfaces?.map((one) => withMac(one, macAddresses === "Preserve" ? vmi : "none"));
  return { ...spec, domain: { ...domain, firmware, devices: { ...domain.devices, ...(interfaces === undefined ? {} : { interfaces }) } } };
}

/** Its instance has the UUID, wherever it came from; a stopped machine without one gets it from its name. */
function uuidOf(vmi: VirtualMachineInstance | null, sourceName: string): string {
  return vmi?.spec?.domain?.firmware?.uuid ?? legacyFirmwareUuid(sourceName);
}

function newFirmware({ serial: _serial, ...firmware }: Firmware = {}, seed: string): Firmware {
  return { ...firmware, uuid: uuidV5(copyNamespace, seed) };
}

function withMac({ macAddress, ...rest }: VmInterface, vmi: VirtualMachineInstance | "none" | null): VmInterface {
  if (vmi === "none") return rest;
  const mac = macAddress ?? vmi?.status?.interfaces?.find(({ name }) => name === rest.name)?.mac ?? "";
  return mac === "" ? rest : { ...rest, macAddress: mac };
}

/** RFC 9562, version 5: a UUID made of a name, by SHA-1. */
function uuidV5(namespace: string, name: string): string {
  const hash = createHash("sha1")
    .update(Buffer.from(namespace.replaceAll("-", ""), "hex"))
    .update(name, "utf8")
    .digest()
    .subarray(0, 16);
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x50;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  return hash.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
