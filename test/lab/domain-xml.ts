/** One disk of a lab domain. */
export interface DiskSpec {
  /** Target device: `vda` is virtio-blk, `sda` virtio-scsi, unless `bus` says otherwise. */
  readonly name: string;
  /** Image file or block device, absolute. */
  readonly path: string;
  readonly format: "qcow2" | "raw";
  readonly type?: "file" | "block";
  /** The raw file behind a qcow2 overlay with an external data file: `<dataStore>`, libvirt ≥ 10.10 (KubeVirt's CBT shape). */
  readonly dataFile?: string;
  readonly device?: "disk" | "cdrom" | "lun" | "floppy";
  readonly bus?: "virtio" | "scsi" | "sata" | "ide" | "fdc";
  /** `ua-<volume>`, as KubeVirt names its disks; default: libvirt's own alias. */
  readonly alias?: string;
  readonly readonly?: boolean;
  /** Any other children of `<disk>`, as XML. */
  readonly extra?: string;
}

/** A lab domain; everything but name and disks has a default. */
export interface DomainSpec {
  readonly name: string;
  readonly disks: readonly DiskSpec[];
  /** Boots the small Linux guest of the `guest` tier; default: a domain with no system on it, started paused. */
  readonly guest?: boolean;
  readonly uuid?: string;
  /** MiB; default 256 with the guest, 64 without. */
  readonly memory?: number;
  /** A channel for the guest agent; default: with the guest. */
  readonly agentChannel?: boolean;
  /** UEFI firmware with NVRAM in this file, made from the template when it is not there. */
  readonly nvram?: string;
  /** Any other children of `<devices>`, as XML. */
  readonly devices?: string;
}

/** Files and sockets that the lab chooses for a domain. */
export interface DomainPaths {
  readonly uuid: string;
  readonly console: string;
  readonly consoleLog: string;
  /** Directory with `vmlinuz` and `initramfs`. */
  readonly guest: string;
}

const FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/** Text as XML character data or attribute value. */
export function escapeXml(text: string): string {
  return text.replace(/[<>&'"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

function sourceXml({ path, dataFile, type = "file" }: DiskSpec): string {
  const attribute = type === "block" ? "dev" : "file";
  if (dataFile === undefined) return `<source ${attribute}='${escapeXml(path)}'/>`;
  const store = `<dataStore type='${type}'><format type='raw'/><source ${attribute}='${escapeXml(dataFile)}'/></dataStore>`;
  // The overlay of a data file is a file even where the data file is a block device, as KubeVirt has it.
  return `<source file='${escapeXml(path)}'>${store}</source>`;
}

/** The bus of a disk, from its name where nothing is said. */
export function busOf({ bus, name }: DiskSpec): string {
  return bus ?? (name.startsWith("sd") ? "scsi" : "virtio");
}

function diskXml(disk: DiskSpec): string {
  const { device = "disk", type = "file" } = disk;
  return [
    `<disk type='${disk.dataFile === undefined ? type : "file"}' device='${device}'>`,
    `<driver name='qemu' type='${disk.format}'${device === "disk" ? " discard='unmap'" : ""}/>`,
    sourceXml(disk),
    `<target dev='${disk.name}' bus='${busOf(disk)}'/>`,
    disk.alias === undefined ? "" : `<alias name='${escapeXml(disk.alias)}'/>`,
    disk.readonly === true ? "<readonly/>" : "",
    disk.extra ?? "",
    "</disk>",
  ].join("");
}

function bootXml(spec: DomainSpec, paths: DomainPaths): string {
  const firmware =
    spec.nvram === undefined
      ? ""
      : `<loader readonly='yes' type='pflash'>${FIRMWARE}</loader><nvram template='${FIRMWARE_VARS}'>${escapeXml(spec.nvram)}</nvram>`;
  const kernel =
    spec.guest === true
      ? `<kernel>${paths.guest}/vmlinuz</kernel><initrd>${paths.guest}/initramfs</initrd><cmdline>console=ttyS0 quiet panic=-1</cmdline>`
      : "";
  return `<os><type arch='x86_64' machine='pc'>hvm</type>${firmware}${kernel}</os>`;
}

/** The `<domain>` document of a spec. */
export function domainXml(spec: DomainSpec, paths: DomainPaths): string {
  const { guest = false, agentChannel = guest, memory = guest ? 256 : 64 } = spec;
  return [
    "<domain type='qemu'>",
    `<name>${escapeXml(spec.name)}</name><uuid>${paths.uuid}</uuid>`,
    `<memory unit='MiB'>${memory}</memory><vcpu>1</vcpu>`,
    bootXml(spec, paths),
    "<features><acpi/></features><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>",
    "<devices>",
    ...spec.disks.map(diskXml),
    "<controller type='usb' model='none'/>",
    spec.disks.some((disk) => busOf(disk) === "scsi") ? "<controller type='scsi' model='virtio-scsi'/>" : "",
    agentChannel ? "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>" : "",
    guest ? `<serial type='unix'><source mode='bind' path='${paths.console}'/><log file='${paths.consoleLog}' append='off'/></serial>` : "",
    spec.devices ?? "",
    "<memballoon model='none'/>",
    "</devices></domain>",
  ].join("\n");
}
