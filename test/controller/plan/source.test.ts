import { describe, expect, test } from "vitest";
import type { MachineFacts } from "../../../src/controller/plan/kubevirt/facts.ts";
import { holderMounts } from "../../../src/controller/plan/kubevirt/host-paths.ts";
import { planSource } from "../../../src/controller/plan/kubevirt/source.ts";
import { launcher, type Part, plan, running, said, stopped, vmiOf, vmOf } from "./machine.ts";

function mounts(part: Omit<Part, "name">): string[] {
  const decision = plan(running([{ name: "root", ...part }]));
  if (decision.kind !== "ready" || decision.source.engine !== "libvirt") return [said(decision)];
  return decision.source.mounts.slice(3).map(({ hostPath, mountPath, type }) => `${hostPath} -> ${mountPath} ${type}`);
}

const pods = "/var/lib/kubelet/pods/pod-uid";

describe("a running machine", () => {
  test("is read through its launcher, mounted under the launcher's own paths", () => {
    expect(plan(running([{ name: "root" }, { name: "data", claim: { volumeMode: "Block", accessModes: ["ReadWriteMany"] } }]))).toEqual({
      kind: "ready",
      warnings: [],
      madeAnew: [],
      source: {
        engine: "libvirt",
        node: "n1",
        podName: "virt-launcher-web-abcde",
        podUid: "pod-uid",
        instanceUid: "vmi-uid",
        uri: "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock",
        domain: "shop_web",
        runtimeDir: "/var/run/libvirt",
        scratchDir: "/var/run/kubevirt-ephemeral-disks",
        diskNames: { root: "ua-root", data: "ua-data" },
        freeze: "controller",
        disks: [
          {
            volume: "root",
            claim: "web-root",
            claimUid: "claim-root",
            volumeName: "pvc-root",
            mode: "Filesystem",
            accessModes: ["ReadWriteOnce"],
            storageClass: "fast",
            place: "volumes/kubernetes.io~csi/pvc-root/mount",
            hotplugged: false,
          },
          {
            volume: "data",
            claim: "web-data",
            claimUid: "claim-data",
            volumeName: "pvc-data",
            mode: "Block",
            accessModes: ["ReadWriteMany"],
            storageClass: "fast",
            place: "volumeDevices/kubernetes.io~csi/pvc-data",
            hotplugged: false,
          },
        ],
        mounts: [
          {
            name: "libvirt-runtime",
            hostPath: `${pods}/volumes/kubernetes.io~empty-dir/libvirt-runtime`,
            mountPath: "/var/run/libvirt",
            type: "Directory",
            readOnly: false,
          },
          {
            name: "private",
            hostPath: `${pods}/volumes/kubernetes.io~empty-dir/private`,
            mountPath: "/var/run/kubevirt-private",
            type: "Directory",
            readOnly: false,
          },
          {
            name: "ephemeral-disks",
            hostPath: `${pods}/volumes/kubernetes.io~empty-dir/ephemeral-disks`,
            mountPath: "/var/run/kubevirt-ephemeral-disks",
            type: "Directory",
            readOnly: false,
          },
          {
            name: "disk-0",
            hostPath: `${pods}/volumes/kubernetes.io~csi/pvc-root/mount`,
            mountPath: "/var/run/kubevirt-private/vmi-disks/root",
            type: "Directory",
            readOnly: true,
          },
          {
            name: "disk-1",
            hostPath: `${pods}/volumeDevices/kubernetes.io~csi/pvc-data`,
            mountPath: "/dev/data",
            type: "BlockDevice",
            readOnly: true,
          },
        ],
      },
    });
  });

  test.each<[string, Omit<Part, "name">, string]>([
    ["CSI", { pv: { csi: {} } }, `${pods}/volumes/kubernetes.io~csi/pvc-root/mount`],
    ["an in-tree cloud disk, served by CSI", { pv: { gcePersistentDisk: {} } }, `${pods}/volumes/kubernetes.io~csi/pvc-root/mount`],
    ["local", { pv: { local: { path: "/mnt/a" } } }, `${pods}/volumes/kubernetes.io~local-volume/pvc-root`],
    ["NFS", { pv: { nfs: {} } }, `${pods}/volumes/kubernetes.io~nfs/pvc-root`],
    ["iSCSI", { pv: { iscsi: {} } }, `${pods}/volumes/kubernetes.io~iscsi/pvc-root`],
    ["flexVolume", { pv: { flexVolume: { driver: "ceph.rook.io/rook" } } }, `${pods}/volumes/ceph.rook.io~rook/pvc-root`],
    ["hostPath, which stays where it is", { pv: { hostPath: { path: "/srv/vm" } } }, "/srv/vm"],
  ])("%s", (_what, part, hostPath) => {
    expect(mounts(part)).toEqual([`${hostPath} -> /var/run/kubevirt-private/vmi-disks/root Directory`]);
  });

  test("a local block volume", () => {
    expect(mounts({ pv: { local: {} }, claim: { volumeMode: "Block" } })).toEqual([
      `${pods}/volumeDevices/kubernetes.io~local-volume/pvc-root -> /dev/root BlockDevice`,
    ]);
  });

  test("a hot-plugged disk is read over NBD alone", () => {
    const parts = [{ name: "root" }, { name: "extra", volume: { dataVolume: { name: "web-extra", hotpluggable: true } } }];
    const decision = plan(running(parts, { vmi: vmiOf(parts, { volumeStatus: [{ name: "extra", hotplugVolume: {} }] }) }));
    expect(decision).toMatchObject({
      source: { diskNames: { root: "ua-root", extra: "ua-extra" }, disks: [{ hotplugged: false }, { hotplugged: true }] },
    });
    expect(JSON.stringify((decision as { source: { mounts: unknown } }).source.mounts)).not.toContain("pvc-extra");
  });

  test("that runs as root has libvirt's system instance; a paused guest, or one without agent, is not frozen", () => {
    expect(plan(running(undefined, { vmi: vmiOf([{ name: "root" }], { runtimeUser: 0, conditions: [] }) }))).toMatchObject({
      source: { uri: "qemu+unix:///system?socket=/var/run/libvirt/virtqemud-sock", freeze: "none" },
    });
    const conditions = ["AgentConnected", "Paused"].map((type) => ({ type, status: "True" }));
    expect(plan(running(undefined, { vmi: vmiOf([{ name: "root" }], { conditions }) }))).toMatchObject({
      source: { freeze: "none" },
      warnings: ["the guest is paused, so its file systems are not frozen"],
    });
  });

  test("the kubelet's directory is what the settings say", () => {
    const decision = planSource(running(), { exclude: [], kubeletRoot: "/var/lib/k0s/kubelet" });
    expect(decision).toMatchObject({
      source: { mounts: [{ hostPath: "/var/lib/k0s/kubelet/pods/pod-uid/volumes/kubernetes.io~empty-dir/libvirt-runtime" }, {}, {}, {}] },
    });
  });
});

const parts = [{ name: "root" }];

describe("a machine waits", () => {
  const gone = { status: { phase: "Succeeded" } };
  const target = launcher({ name: "target", uid: "target" }, { spec: { nodeName: "n2" } });

  test.each<[string, MachineFacts, string]>([
    [
      "being deleted",
      running(parts, { vm: { metadata: { name: "web", deletionTimestamp: "2026-11-21T12:00:00Z" } } }),
      "wait BeingDeleted: web is being deleted",
    ],
    ["starting", running(parts, { vmi: vmiOf(parts, { phase: "Scheduled" }) }), "wait Starting: web is starting (Scheduled)"],
    ["about to start", stopped(parts, { vm: vmOf(parts, { running: true }) }), "wait Starting: web is about to start"],
    [
      "asked to start",
      stopped(parts, { vm: vmOf(parts, { runStrategy: "Manual" }, { status: { stateChangeRequests: [{ action: "Start" }] } }) }),
      "wait Starting: web is about to start",
    ],
    ["without launcher", running(parts, { pods: [] }), "wait LauncherNotReady: web has no virt-launcher pod on its node yet"],
    [
      "with a launcher elsewhere",
      running(parts, { pods: [target] }),
      "wait LauncherNotReady: web has no virt-launcher pod on its node yet",
    ],
    [
      "with two launchers",
      running(parts, { pods: [launcher(), target] }),
      "wait LauncherNotReady: web has 2 virt-launcher pods, of which one is going",
    ],
    [
      "with a pod that only looks like it",
      running(parts, { pods: [launcher({ ownerReferences: [] })] }),
      "wait LauncherNotReady: web has no virt-launcher pod on its node yet",
    ],
    [
      "with a launcher that is not ready",
      running(parts, { pods: [launcher({}, { status: { phase: "Pending" } })] }),
      "wait LauncherNotReady: the virt-launcher pod virt-launcher-web-abcde is not ready",
    ],
    [
      "frozen by another",
      running(parts, { vmi: vmiOf(parts, { fsFreezeStatus: "frozen" }) }),
      "wait FrozenByAnother: the file systems of web are frozen already, by a snapshot or another backup; this one follows when they are thawed",
    ],
    ["without a claim", stopped(parts, { claims: [] }), "wait VolumeNotReady: disk root: its PersistentVolumeClaim web-root is not there"],
    [
      "with an unbound claim",
      stopped([{ name: "root" }], { claims: [{ metadata: { name: "web-root" }, status: { phase: "Pending" } }] }),
      "wait VolumeNotReady: disk root: its PersistentVolumeClaim web-root is Pending, not Bound",
    ],
    [
      "while CDI fills a disk",
      stopped([{ name: "root", annotations: { "cdi.kubevirt.io/storage.condition.running": "true" } }]),
      "wait VolumeNotReady: disk root: its PersistentVolumeClaim web-root is still being filled by CDI",
    ],
    [
      "while another has its volume",
      stopped(parts, { pods: [podWith("web-root")] }),
      "wait VolumeInUse: the pod user has the volume web-root of web; the backup follows when it has ended",
    ],
    [
      "while its own launcher still has it",
      stopped(parts, {
        pods: [launcher({}, { spec: { nodeName: "n1", volumes: [{ name: "root", persistentVolumeClaim: { claimName: "web-root" } }] } })],
      }),
      "wait VolumeInUse: the pod virt-launcher-web-abcde has the volume web-root of web; the backup follows when it has ended",
    ],
  ])("%s", (_what, facts, message) => {
    expect(said(plan(facts))).toBe(message);
  });

  test("and not for a launcher that is done: after a migration its old one stays for a while", () => {
    expect(said(plan(running(parts, { pods: [launcher(), launcher({ uid: "old" }, gone)] })))).toBe("ready libvirt");
  });
});

function podWith(claimName: string, more: Record<string, string> = {}): MachineFacts["pods"][number] {
  return {
    metadata: { name: "user", labels: more },
    spec: { nodeName: "n7", volumes: [{ name: "v", persistentVolumeClaim: { claimName } }] },
    status: { phase: "Running" },
  };
}

describe("a stopped machine", () => {
  test("is read through a holder, wherever the scheduler can put it", () => {
    const decision = plan(stopped([{ name: "root" }, { name: "data", claim: { volumeMode: "Block" } }]));
    expect(decision).toMatchObject({
      kind: "ready",
      source: {
        engine: "image",
        node: null,
        images: [
          { disk: "root", path: "/run/thinstream/volumes/root/disk.img", format: "raw" },
          { disk: "data", path: "/run/thinstream/volumes/data", format: "raw" },
        ],
      },
    });
    const disks = decision.kind === "ready" ? decision.source.disks : [];
    expect(
      holderMounts("/var/lib/kubelet/pods/holder", disks, true).map(({ hostPath, mountPath }) => `${hostPath} -> ${mountPath}`),
    ).toEqual([
      "/var/lib/kubelet/pods/holder/volumes/kubernetes.io~csi/pvc-root/mount -> /run/thinstream/volumes/root",
      "/var/lib/kubelet/pods/holder/volumeDevices/kubernetes.io~csi/pvc-data -> /run/thinstream/volumes/data",
    ]);
  });

  test("with an instance that has ended is stopped too, unless it is to run again", () => {
    const ended = { vmi: vmiOf(parts, { phase: "Succeeded" }) };
    expect(said(plan(stopped(parts, { ...ended, vm: vmOf(parts, { runStrategy: "RerunOnFailure" }) })))).toBe("ready image");
    expect(said(plan(stopped(parts, { ...ended, vm: vmOf(parts, { runStrategy: "Once" }) })))).toBe("ready image");
    expect(said(plan(stopped(parts, { ...ended, vm: vmOf(parts, { runStrategy: "Always" }) })))).toBe(
      "wait Starting: web is about to start",
    );
    expect(said(plan(stopped(parts, { vmi: vmiOf(parts, { phase: "Failed" }), vm: vmOf(parts, { runStrategy: "RerunOnFailure" }) })))).toBe(
      "wait Starting: web is about to start",
    );
  });

  test("whose volume a holder of ours has stays on its node, if only one node may have it", () => {
    const ours = { pods: [podWith("web-root", { "thinstream.dev/work": "hold" })] };
    expect(plan(stopped(parts, ours))).toMatchObject({ source: { node: "n7" } });
    expect(plan(stopped([{ name: "root", claim: { accessModes: ["ReadWriteMany"] } }], ours))).toMatchObject({ source: { node: null } });
    expect(said(plan(stopped([{ name: "root", claim: { accessModes: ["ReadWriteOncePod"] } }], ours)))).toContain("wait VolumeInUse");
  });

  test("whose volume is being restored is not read meanwhile", () => {
    const holder = podWith("web-root", { "thinstream.dev/work": "hold" });
    const writes = { ...holder, metadata: { ...holder.metadata, annotations: { "thinstream.dev/owner": "RestoreRequest/shop/undo" } } };
    expect(said(plan(stopped(parts, { pods: [writes] })))).toContain("wait VolumeInUse");
  });
});

describe("disks", () => {
  const not = "to back up the others, name it under disks.exclude";

  test.each<[string, Part, string]>([
    [
      "hostDisk",
      { name: "x", volume: { hostDisk: { path: "/a" } } },
      `disk x is a file of its node (hostDisk), which is not backed up; ${not}`,
    ],
    [
      "shareable",
      { name: "x", disk: { disk: {}, shareable: true } },
      `disk x is shared by several machines (shareable), so what one of them sees is no state of it; ${not}`,
    ],
    ["LUN", { name: "x", disk: { lun: {} } }, `disk x is a SCSI device passed through (lun), which no backup job of QEMU covers; ${not}`],
    ["a volume of the future", { name: "x", volume: {} }, `disk x is of a kind that Thinstream does not know; ${not}`],
    [
      "a PersistentVolume of no known kind",
      { name: "x", pv: { quobyte: {} } },
      `disk x lies in the PersistentVolume pvc-x, of a kind whose place on a node is not known; ${not}`,
    ],
  ])("%s refuses the machine, until it is left out by name", (_what, part, message) => {
    for (const facts of [running([{ name: "root" }, part]), stopped([{ name: "root" }, part])]) {
      expect(said(plan(facts))).toBe(`refuse DisksNotSupported: ${message}`);
      expect(plan(facts, ["x"])).toMatchObject({ kind: "ready", warnings: [], source: { disks: [{ volume: "root" }] } });
    }
  });

  test("virtiofs refuses the machine", () => {
    const facts = stopped([{ name: "root" }, { name: "share", disk: null }]);
    const spec = {
      ...facts.vm?.spec?.template?.spec,
      domain: { devices: { disks: [{ name: "root", disk: {} }], filesystems: [{ name: "share" }] } },
    };
    expect(said(plan({ ...facts, vm: { metadata: { name: "web" }, spec: { runStrategy: "Halted", template: { spec } } } }))).toBe(
      `refuse DisksNotSupported: disk share is a shared file system (virtiofs), which no backup job of QEMU covers; ${not}`,
    );
  });

  test("what a machine has anew at every start is left out and named, what holds data and cannot be written with a warning", () => {
    const decision = plan(
      running([
        { name: "root" },
        { name: "init", volume: { cloudInitNoCloud: {} } },
        { name: "os", volume: { containerDisk: {} } },
        { name: "tmp", volume: { emptyDisk: {} } },
        { name: "cow", volume: { ephemeral: {} } },
        { name: "dvd", disk: { cdrom: {} } },
        { name: "dump", disk: null, volume: { memoryDump: {} } },
        { name: "odd", disk: null },
      ]),
      ["nothing"],
    );
    expect(decision).toMatchObject({ madeAnew: ["init", "os", "tmp", "cow"] });
    expect(said(decision).split("; ")).toEqual([
      "ready libvirt",
      "disk dvd is read-only (a CD-ROM or a read-only claim), so it is not backed up",
      "dump holds a memory dump, which is no disk",
      "volume odd is no disk of the machine",
      "there is no disk nothing to leave out",
    ]);
  });

  test("a machine that is not there, or has nothing to back up, is refused", () => {
    expect(said(plan(stopped(parts, { vm: null })))).toBe(
      "refuse VirtualMachineNotFound: there is no VirtualMachine web in namespace shop: check the name",
    );
    expect(said(plan(stopped([{ name: "os", volume: { containerDisk: {} } }])))).toBe(
      "refuse NoDisks: web has no disk to back up: all its volumes are made anew at every start, or left out",
    );
    expect(said(plan(stopped(parts), ["root"]))).toContain("refuse NoDisks");
  });
});
