import { XMLParser } from "fast-xml-parser";
import { LibvirtError } from "./errors.ts";

/** What the XML of a domain says that matters for a backup. */
export interface DomainDescription {
  readonly name: string;
  readonly uuid: string;
  readonly disks: readonly DomainDisk[];
  readonly hasAgentChannel: boolean;
  /** User and group that QEMU runs as, where libvirt's DAC driver says so (a running domain). */
  readonly owner: { readonly uid: number; readonly gid: number } | null;
  /** Files beside the disks that the machine boots from. */
  readonly boot: {
    readonly loader: string | null;
    readonly nvram: string | null;
    readonly kernel: string | null;
    readonly initrd: string | null;
  };
}

export interface DomainDisk {
  /** `vda` */
  readonly target: string;
  readonly device: "disk" | "cdrom" | "floppy" | "lun";
  /** `file`, `block`, `volume`, `network`, … as libvirt names it */
  readonly type: string;
  /** `qcow2`, `raw`, …; libvirt's default is raw */
  readonly format: string;
  /** File or block device; null where the source is something else or nothing. */
  readonly path: string | null;
  readonly volume: { readonly pool: string; readonly volume: string } | null;
  readonly readOnly: boolean;
  readonly alias: string | null;
  /** The raw store behind a qcow2 that holds only metadata (`<dataStore>`). */
  readonly dataStore: string | null;
}

/** A pull backup job's XML. */
export interface BackupJob {
  /** Socket of the job's NBD server; null when it listens elsewhere or nowhere. */
  readonly socket: string | null;
  readonly disks: readonly { readonly name: string; readonly scratch: string | null }[];
}

const attributes = "@";
const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: attributes,
  parseTagValue: false,
  parseAttributeValue: false,
  htmlEntities: true,
  isArray: (name) => name === "disk" || name === "channel" || name === "seclabel",
});

type Node = Readonly<Record<string, unknown>>;

/** Reads a domain's XML. Throws `invalid-xml`. */
export function parseDomain(xml: string): DomainDescription {
  const domain = root(xml, "domain");
  const devices = child(domain, "devices");
  const os = child(domain, "os");
  return {
    name: required(text(domain["name"]), "domain without a name"),
    uuid: text(domain["uuid"]) ?? "",
    disks: nodes(devices["disk"]).map(parseDisk),
    hasAgentChannel: nodes(devices["channel"]).some((channel) => attribute(child(channel, "target"), "name") === "org.qemu.guest_agent.0"),
    owner:
      nodes(domain["seclabel"])
        .map(parseOwner)
        .find((owner) => owner !== null) ?? null,
    boot: { loader: text(os["loader"]), nvram: parseNvram(os["nvram"]), kernel: text(os["kernel"]), initrd: text(os["initrd"]) },
  };
}

// Plain text, or since libvirt 8.5 a <source file='…'/>.
function parseNvram(nvram: unknown): string | null {
  const source = isNode(nvram) ? child(nvram, "source") : {};
  return attribute(source, "file") ?? text(nvram);
}

function parseOwner(label: Node): DomainDescription["owner"] {
  const ids = attribute(label, "model") === "dac" ? /^\+(\d+):\+(\d+)$/.exec(text(label["label"]) ?? "") : null;
  return ids === null ? null : { uid: Number(ids[1]), gid: Number(ids[2]) };
}

function parseDisk(disk: Node): DomainDisk {
  const source = child(disk, "source");
  const device = attribute(disk, "device") ?? "disk";
  const [pool, volume] = [attribute(source, "pool"), attribute(source, "volume")];
  return {
    target: required(attribute(child(disk, "target"), "dev"), "disk without a target"),
    device: device === "cdrom" || device === "floppy" || device === "lun" ? device : "disk",
    type: attribute(disk, "type") ?? "file",
    format: attribute(child(disk, "driver"), "type") ?? "raw",
    path: attribute(source, "file") ?? attribute(source, "dev"),
    volume: pool !== null && volume !== null ? { pool, volume } : null,
    readOnly: "readonly" in disk,
    alias: attribute(child(disk, "alias"), "name"),
    dataStore: parseDataStore(child(source, "dataStore")),
  };
}

function parseDataStore(store: Node): string | null {
  const source = child(store, "source");
  return attribute(source, "file") ?? attribute(source, "dev") ?? (attribute(store, "type") === null ? null : "");
}

/** Reads the XML of a backup job. Throws `invalid-xml`. */
export function parseBackup(xml: string): BackupJob {
  const backup = root(xml, "domainbackup");
  return {
    socket: attribute(child(backup, "server"), "socket"),
    disks: nodes(child(backup, "disks")["disk"]).map((disk) => ({
      name: attribute(disk, "name") ?? "",
      scratch: attribute(child(disk, "scratch"), "file") ?? attribute(child(disk, "scratch"), "dev"),
    })),
  };
}

/** Disks that a checkpoint's XML says it keeps a bitmap for. Throws `invalid-xml`. */
export function parseCheckpointDisks(xml: string): readonly string[] {
  const disks = nodes(child(root(xml, "domaincheckpoint"), "disks")["disk"]);
  return disks.filter((disk) => attribute(disk, "checkpoint") !== "no").map((disk) => attribute(disk, "name") ?? "");
}

/** Bytes changed since a checkpoint, by disk, from its XML with sizes. Throws `invalid-xml`. */
export function parseCheckpointSizes(xml: string): ReadonlyMap<string, number> {
  const disks = nodes(child(root(xml, "domaincheckpoint"), "disks")["disk"]);
  const sizes = disks.map((disk): [string, number] => [attribute(disk, "name") ?? "", Number(attribute(disk, "size") ?? Number.NaN)]);
  return new Map(sizes.filter(([, size]) => Number.isFinite(size)));
}

function root(xml: string, name: string): Node {
  let parsed: unknown;
  try {
    parsed = parser.parse(xml, true);
  } catch (cause) {
    throw new LibvirtError("invalid-xml", `this is no XML of a <${name}>`, { cause });
  }
  const node = isNode(parsed) ? parsed[name] : undefined;
  if (!isNode(node)) throw new LibvirtError("invalid-xml", `this is no XML of a <${name}>`);
  return node;
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function child(node: Node, name: string): Node {
  const value = node[name];
  const first: unknown = Array.isArray(value) ? value[0] : value;
  return isNode(first) ? first : {};
}

function nodes(value: unknown): Node[] {
  return Array.isArray(value) ? value.filter(isNode) : [];
}

function text(value: unknown): string | null {
  const found: unknown = isNode(value) ? value["#text"] : value;
  return typeof found === "string" && found !== "" ? found : null;
}

function attribute(node: Node, name: string): string | null {
  const value = node[attributes + name];
  return typeof value === "string" ? value : null;
}

function required(value: string | null, otherwise: string): string {
  if (value === null) throw new LibvirtError("invalid-xml", `the domain's XML has a ${otherwise}`);
  return value;
}
