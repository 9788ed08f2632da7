import { writeFileSync } from "node:fs";
import { run } from "../lab/index.ts";
import { type DiskModel, GRANULE } from "./disk-model.ts";
import type { Rng } from "./rng.ts";
import type { NewDisk, SoakVm } from "./soak-vm.ts";

const MiB = 2 ** 20;
const MOST_DISKS = 4;
const LARGEST_DISK = 96 * MiB;

/** What befalls the machine between two backups. */
export type EventName = keyof typeof EVENT_WEIGHTS;

/** How often each happens, once anything does. */
export const EVENT_WEIGHTS: Readonly<
  Record<
    | "metadataLost"
    | "bitmapLost"
    | "restarted"
    | "qemuKilled"
    | "offlineWrites"
    | "offlineBackup"
    | "grownLive"
    | "grownOffline"
    | "regrownLive"
    | "regrownOffline"
    | "attachedLive"
    | "attachedOffline"
    | "detached",
    number
  >
> = {
  metadataLost: 2,
  bitmapLost: 2,
  restarted: 2,
  qemuKilled: 3,
  offlineWrites: 3,
  offlineBackup: 4,
  grownLive: 1,
  grownOffline: 1,
  regrownLive: 1,
  regrownOffline: 1,
  attachedLive: 1,
  attachedOffline: 1,
  detached: 2,
};

/** What an event may call back for. */
export interface EventTools {
  readonly rng: Rng;
  readonly vm: SoakVm;
  /** a few random actions on a random disk, running or not */
  readonly write: () => Promise<void>;
  /** a backup of the machine as it is */
  readonly backup: () => Promise<void>;
}

/** @returns null, or why the event could not happen this time */
export async function happen(event: EventName, tools: EventTools): Promise<string | null> {
  return await HANDLERS[event](tools);
}

const HANDLERS: Readonly<Record<EventName, (tools: EventTools) => Promise<string | null>>> = {
  metadataLost: async (tools) => await whileOff(tools, async () => await tools.vm.loseMetadata()),
  bitmapLost: async (tools) => await whileOff(tools, async () => await loseBitmap(tools)),
  restarted: async (tools) => await whileOff(tools, async () => undefined),
  qemuKilled: async ({ vm, rng, write }) => {
    await write();
    if (rng.chance(0.5)) await vm.flush();
    await vm.kill();
    await vm.start();
    return null;
  },
  offlineWrites: async (tools) => await whileOff(tools, async () => await tools.write()),
  offlineBackup: async (tools) =>
    await whileOff(tools, async () => {
      const { rng, write, backup } = tools;
      if (rng.chance(0.7)) await write();
      await backup();
      if (rng.chance(0.3)) {
        await write();
        await backup();
      }
    }),
  grownLive: async ({ vm, rng }) => {
    const disk = rng.pick(vm.attached);
    const size = largerSize(rng, disk);
    if (size > LARGEST_DISK) return "the disk is large enough";
    // libvirt itself refuses while a backup job of a killed run is there.
    const refused = await vm.lab.virsh("blockresize", vm.name, disk.spec.name, `${size}B`).then(
      () => null,
      (error: unknown) => String(error),
    );
    if (refused !== null) return refusal(refused);
    disk.grow(size);
    return null;
  },
  grownOffline: async (tools) =>
    await whileOff(tools, async () => {
      const disk = tools.rng.pick(tools.vm.attached);
      const size = largerSize(tools.rng, disk);
      if (size > LARGEST_DISK) return "the disk is large enough";
      // qemu-img does not resize while the image has a bitmap that was not saved.
      const refused = await run("qemu-img", ["resize", "-q", "-f", disk.spec.format, disk.spec.path, String(size)]).then(
        () => null,
        (error: unknown) => refusal(String(error)),
      );
      if (refused === null) disk.grow(size);
      return refused;
    }),
  regrownLive: async ({ vm, rng }) => {
    const disk = rng.pick(vm.attached);
    if (disk.spec.format !== "qcow2") return "the disk is raw";
    const smaller = rng.int(1, Math.floor(disk.size / GRANULE)) * GRANULE;
    const resize = async (size: number): Promise<unknown> => await vm.lab.virsh("blockresize", vm.name, disk.spec.name, `${size}B`);
    const refused = await resize(smaller).then(
      () => null,
      (error: unknown) => refusal(String(error)),
    );
    if (refused !== null) return refused;
    await resize(disk.size);
    disk.regrow(smaller);
    return null;
  },
  regrownOffline: async (tools) =>
    await whileOff(tools, async () => {
      const disk = tools.rng.pick(tools.vm.attached);
      const { format, path } = disk.spec;
      // Whole clusters: of one that is cut, QEMU keeps the old content and shows it again.
      const smaller = tools.rng.int(1, Math.floor(disk.size / GRANULE)) * GRANULE;
      const resize = async (...args: string[]): Promise<unknown> => await run("qemu-img", ["resize", "-q", "-f", format, ...args]);
      const refused = await resize("--shrink", path, String(smaller)).then(
        () => null,
        (error: unknown) => refusal(String(error)),
      );
      if (refused !== null) return refused;
      await resize(path, String(disk.size));
      disk.regrow(smaller);
      return null;
    }),
  attachedLive: async ({ vm, rng }) => await attach(vm, rng, true),
  attachedOffline: async (tools) => await whileOff(tools, async () => await attach(tools.vm, tools.rng, false)),
  detached: async (tools) =>
    await whileOff(tools, async () => {
      const { vm, rng } = tools;
      if (vm.attached.length <= 2) return "there are only two disks";
      // The first stays: a machine with nothing that tracks changes is another matter.
      const [disk] = vm.attached.splice(rng.int(1, vm.attached.length), 1);
      vm.shelf.push(disk as DiskModel);
      await vm.define();
      return null;
    }),
};

async function whileOff({ vm }: EventTools, work: () => Promise<string | null | void>): Promise<string | null> {
  await vm.stop();
  const outcome = (await work()) ?? null;
  await vm.start();
  return outcome;
}

async function loseBitmap({ vm, rng }: EventTools): Promise<string | null> {
  const disk = rng.pick(vm.attached);
  const bitmaps = await bitmapsOf(disk);
  if (bitmaps.length === 0) return "the disk has no bitmap";
  await run("qemu-img", ["bitmap", "--remove", disk.spec.path, rng.pick(bitmaps)]);
  return null;
}

/** Names of the persistent bitmaps of an image. */
export async function bitmapsOf(disk: DiskModel): Promise<string[]> {
  const info = JSON.parse(await run("qemu-img", ["info", "-U", "--output=json", disk.spec.path])) as {
    readonly "format-specific"?: { readonly data?: { readonly bitmaps?: readonly { readonly name: string }[] } };
  };
  return (info["format-specific"]?.data?.bitmaps ?? []).map(({ name }) => name);
}

function largerSize(rng: Rng, disk: DiskModel): number {
  return disk.size + (rng.chance(0.5) ? rng.int(1, 40) * GRANULE : rng.int(1, 4000) * 512);
}

function refusal(text: string): string {
  if (/job|unsupported|not supported|checkpoint|is in use|is inconsistent/i.test(text))
    return text.includes("inconsistent") ? "a bitmap is inconsistent" : "there is a job, or libvirt does not do it";
  throw new Error(text);
}

/** A disk that was taken out comes back, perhaps changed meanwhile, or a new one comes. */
async function attach(vm: SoakVm, rng: Rng, live: boolean): Promise<string | null> {
  if (vm.attached.length >= MOST_DISKS) return "there are disks enough";
  const free = ["vdb", "vdc", "vdd", "vde"].filter((name) => !vm.attached.some(({ spec }) => spec.name === name));
  const back = vm.shelf.findIndex(({ spec }) => free.includes(spec.name));
  const disk = back >= 0 && rng.chance(0.6) ? (vm.shelf.splice(back, 1)[0] as DiskModel) : await vm.make(rng.pick(free), randomDisk(rng));
  if (live) {
    const refused = await attachLive(vm, disk);
    if (refused !== null) {
      vm.shelf.push(disk);
      return refused;
    }
  }
  vm.attached.push(disk);
  await vm.define();
  return null;
}

async function attachLive(vm: SoakVm, { spec }: DiskModel): Promise<string | null> {
  const xml = [
    `<disk type='file' device='disk'><driver name='qemu' type='${spec.format}' discard='unmap'/>`,
    `<source file='${spec.path}'/><target dev='${spec.name}' bus='virtio'/><alias name='${spec.alias}'/></disk>`,
  ];
  const file = `${spec.path}.xml`;
  writeFileSync(file, xml.join(""));
  return await vm.lab.virsh("attach-device", vm.name, file, "--live").then(
    () => null,
    (error: unknown) => refusal(String(error)),
  );
}

function randomDisk(rng: Rng): NewDisk {
  const size = rng.int(8, 24) * MiB + (rng.chance(0.5) ? rng.int(1, 128) * 512 : 0);
  return rng.chance(0.3) ? { format: "raw", size } : { format: "qcow2", size, clusterSize: rng.pick([4096, 65_536, 16_384]) };
}

/** The disks the machine begins with. */
export async function firstDisks(vm: SoakVm): Promise<void> {
  vm.attached.push(
    await vm.make("vda", { format: "qcow2", size: 32 * MiB, clusterSize: 65_536 }),
    await vm.make("vdb", { format: "qcow2", size: 64 * MiB + 20_992, clusterSize: 4096 }),
    await vm.make("vdc", { format: "raw", size: 12 * MiB + 512 }),
  );
}
