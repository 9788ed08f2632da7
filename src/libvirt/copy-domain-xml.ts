import { elements, ensure, find, formatXml, parseXml, remove, setText, textOf, type XmlElement } from "./xml-tree.ts";

/** How a restored copy differs from the domain that was backed up. */
export interface DomainCopy {
  readonly name: string;
  readonly uuid: string;
  /** a fresh address for each network interface */
  readonly nextMac: () => string;
  /** restored disks by target name, e.g. `vda` */
  readonly disks: ReadonlyMap<string, { readonly path: string; readonly format: "raw" | "qcow2" }>;
  /** new places of files the domain names: kernel, initrd, loader, NVRAM; by tag below `<os>` */
  readonly bootFiles: ReadonlyMap<string, string>;
}

export interface CopiedDomain {
  readonly xml: string;
  /** what the copy lacks of the original, in sentences */
  readonly warnings: readonly string[];
}

/** Rewrites a domain's XML so that the copy can be defined, and run, beside the original. */
export function copyDomainXml(original: string, copy: DomainCopy): CopiedDomain {
  const domain = parseXml(original);
  const warnings: string[] = [];
  delete domain.attributes["id"];
  renameDomain(domain, copy);
  const os = find(domain, "os");
  for (const [tag, path] of copy.bootFiles) if (os !== undefined) setText(ensure(os, tag), path);
  remove(domain, "seclabel");
  const devices = ensure(domain, "devices");
  devices.children = devices.children.filter((child) => !("tag" in child) || child.tag !== "disk" || copyDisk(child, copy, warnings));
  for (const nic of elements(devices, "interface")) copyInterface(nic, copy);
  for (const channel of elements(devices, "channel"))
    if (channel.attributes["type"] === "unix" && find(channel, "source")?.attributes["mode"] === "bind") remove(channel, "source");
  for (const graphics of elements(devices, "graphics")) freePorts(graphics);
  if (find(devices, "tpm") !== undefined) warnings.push("The copy's TPM starts empty: its state is not part of a backup");
  return { xml: formatXml(domain), warnings };
}

/** Paths of the files below `<os>` that a domain names, by tag. */
export function bootFilesOf(xml: string): Map<string, string> {
  const os = find(parseXml(xml), "os");
  const files = new Map<string, string>();
  for (const tag of ["loader", "nvram", "kernel", "initrd", "dtb"]) {
    const path = os === undefined ? "" : textOf(find(os, tag));
    if (path.startsWith("/")) files.set(tag, path);
  }
  return files;
}

/** A domain's own name. */
export function domainNameOf(xml: string): string {
  return textOf(find(parseXml(xml), "name"));
}

function renameDomain(domain: XmlElement, copy: DomainCopy): void {
  setText(ensure(domain, "name"), copy.name);
  setText(ensure(domain, "uuid"), copy.uuid);
  for (const system of elements(domain, "sysinfo").flatMap((info) => elements(info, "system"))) {
    for (const entry of elements(system, "entry")) if (entry.attributes["name"] === "uuid") setText(entry, copy.uuid);
  }
  const genid = find(domain, "genid");
  if (genid !== undefined) genid.children = [];
}

/** @returns whether the copy has this disk */
function copyDisk(disk: XmlElement, copy: DomainCopy, warnings: string[]): boolean {
  const name = find(disk, "target")?.attributes["dev"] ?? "";
  const restored = copy.disks.get(name);
  remove(disk, "backingStore", "mirror", "alias");
  if (restored === undefined) {
    const removable = ["cdrom", "floppy"].includes(disk.attributes["device"] ?? "disk");
    if (removable) remove(disk, "source");
    else warnings.push(`The copy lacks the disk ${name}: it was not restored`);
    return removable;
  }
  disk.attributes["type"] = "file";
  const driver = ensure(disk, "driver");
  driver.attributes = { ...driver.attributes, name: "qemu", type: restored.format };
  remove(disk, "source");
  ensure(disk, "source").attributes = { file: restored.path };
  return true;
}

function copyInterface(nic: XmlElement, copy: DomainCopy): void {
  ensure(nic, "mac").attributes = { address: copy.nextMac() };
  remove(nic, "target", "alias");
}

/** A fixed port can be held by one of the two only. */
function freePorts(graphics: XmlElement): void {
  if (graphics.attributes["port"] === undefined) return;
  graphics.attributes = { ...graphics.attributes, port: "-1", autoport: "yes" };
}
