import { describe, expect, test } from "vitest";
import { type Instance, planDisk } from "../../src/agent/libvirt-pull/plan.ts";
import { parseDomain } from "../../src/libvirt/index.ts";

const [disk] = parseDomain(`<domain><name>web</name><uuid>8e0a3f1c-5b7e-4c1a-9d0e-2f6b7a8c9d0e</uuid><devices>
  <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
    <source file='/cbt/root.qcow2'><dataStore type='file'><format type='raw'/><source file='/disks/root/disk.img'/></dataStore></source>
    <target dev='vda' bus='virtio'/></disk></devices></domain>`).disks;

const here: Instance = { boot: "host-1", id: 3, cpuTime: 5_000_000_000, uid: "vmi-1" };

/** The level that a raw disk behind an overlay is read at, when its last point was taken in another run than now. */
function levelOf(then: Instance, now: Instance): string {
  if (disk === undefined) throw new TypeError("the domain has no disk");
  const base = {
    disk: "vda",
    point: "1",
    size: 2 ** 20,
    checkpoint: "ts-1",
    checkpointXml: "",
    imageInfo: { thinstream: { instance: then } },
  };
  return planDisk(disk, null, { level: "auto", bases: [base], instance: now }).level;
}

const without = ({ boot, id, cpuTime }: Instance): Instance => ({ boot, id, cpuTime });

describe("a raw disk whose changes an overlay tracks", () => {
  test("is read by its changes within one run of its machine, and whole after another", () => {
    expect(levelOf(without(here), { ...without(here), cpuTime: 6_000_000_000 })).toBe("incremental");
    expect(levelOf(without(here), { ...without(here), id: 4, cpuTime: 1 })).toBe("full");
    expect(levelOf(without(here), { ...without(here), boot: "host-2" })).toBe("full");
    expect(levelOf(without(here), { ...without(here), cpuTime: 1 })).toBe("full");
  });

  test("is read by its changes where the machine migrated, and whole where another instance of it runs on the very same host", () => {
    expect(levelOf(here, { boot: "host-2", id: 1, cpuTime: 1, uid: "vmi-1" })).toBe("incremental");
    expect(levelOf(here, { ...here, uid: "vmi-2" })).toBe("full");
  });

  test("is judged by libvirt's signs where only one of the two runs has a name", () => {
    expect(levelOf(without(here), here)).toBe("incremental");
    expect(levelOf(without(here), { ...here, id: 4 })).toBe("full");
    expect(levelOf(here, without({ ...here, boot: "host-2" }))).toBe("full");
  });
});
