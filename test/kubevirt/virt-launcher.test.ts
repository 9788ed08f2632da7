import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Identity } from "../cluster/index.ts";
import { ControlPlane } from "../cluster/index.ts";
import { compareRaw, createImage, qemuIo, skipWithout } from "../lab/index.ts";
import type { KubeObject, Pod } from "../node/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { eventually, podWhen, runs } from "../node/world.ts";
import { agentPod } from "./agent-pod.ts";
import type { Machine, VmiObject } from "./index.ts";
import { KubeVirt, LAUNCHER_URI, SOCKET, contentOf, vmObjects } from "./index.ts";

const MIB = 2 ** 20;
const JOB = "/var/run/libvirt/ts-job";
const SCRATCH = "/var/run/kubevirt-ephemeral-disks/ts-job";

interface Status {
  readonly status: Record<string, unknown> & { readonly conditions: { readonly type: string; readonly status: string }[] };
}

describe.skipIf(skipWithout("cluster", "trixie", "guest"))("a stand-in for KubeVirt", () => {
  let plane: ControlPlane;
  let admin: Identity;
  let nodes: NodeSimulator;
  let kubevirt: KubeVirt;
  beforeAll(async () => {
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    admin = plane.admin;
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a", "node-b"] });
    kubevirt = await KubeVirt.start(plane, nodes);
  });
  afterAll(async () => {
    await kubevirt?.stop();
    await nodes?.stop();
    await plane?.stop();
  });

  const vmi = (name: string): Promise<VmiObject & Status> => admin.get("vmi", name);
  const put = (name: string, verb: string, body: object = {}): Promise<string> => {
    const path = `/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/${name}/${verb}`;
    return admin.kubectl(["replace", "--raw", path, "-f", "-"], { input: JSON.stringify(body) });
  };
  const three = [{ name: "root" }, { name: "data", mode: "Block" }, { name: "other", qcow2: true, bus: "scsi" }] as const;

  /** An agent beside the machine, and a pull backup with its socket and scratch where both see them; the disks as it read them. */
  async function pull(
    machine: Machine,
    agent: Pod,
    { checkpoint, since, disks }: { checkpoint?: string; since?: string; disks: readonly string[] },
  ): Promise<Map<string, string>> {
    const sh = (script: string): Promise<string> => nodes.exec(agent, ["sh", "-ec", script]);
    const names = machine.launcher.spec.disks.map(({ name, alias }) => ({ name, volume: alias?.slice(3) ?? "" }));
    const wanted = names.map(({ name, volume }) =>
      disks.includes(volume)
        ? `<disk name='${name}' type='file'><driver type='qcow2'/><scratch file='${SCRATCH}/${name}'/></disk>`
        : `<disk name='${name}' backup='no'/>`,
    );
    const tracked = names.map(({ name, volume }) => `<disk name='${name}' checkpoint='${disks.includes(volume) ? "bitmap" : "no"}'/>`);
    const base = since === undefined ? "" : `<incremental>${since}</incremental>`;
    const job = `<domainbackup mode='pull'>${base}<server transport='unix' socket='${JOB}/nbd.sock'/><disks>${wanted.join("")}</disks></domainbackup>`;
    const point =
      checkpoint === undefined ? "" : `<domaincheckpoint><name>${checkpoint}</name><disks>${tracked.join("")}</disks></domaincheckpoint>`;
    const virsh = `virsh -q -c '${LAUNCHER_URI}'`;
    await nodes.exec(agent, ["tee", "/tmp/job.xml"], job);
    await nodes.exec(agent, ["tee", "/tmp/point.xml"], point);
    await sh(`mkdir -m 700 ${JOB} ${SCRATCH}; chown 107:107 ${JOB} ${SCRATCH}`);
    const read = new Map<string, string>();
    try {
      await sh(`${virsh} backup-begin ${machine.launcher.name} /tmp/job.xml ${checkpoint === undefined ? "" : "/tmp/point.xml"}`);
      for (const { name, volume } of names.filter((one) => disks.includes(one.volume))) {
        const url = `nbd+unix:///${name}?socket=${JOB}/nbd.sock`;
        if (since === undefined) {
          await sh(`nbdcopy '${url}' /tmp/${volume}.raw`);
          read.set(volume, join(nodes.podDir(agent), `volumes/kubernetes.io~empty-dir/tmp/${volume}.raw`));
        } else read.set(volume, await sh(`nbdinfo --map=qemu:dirty-bitmap:backup-${name} '${url}' | awk '/dirty/ {print $1 "+" $2}'`));
      }
    } finally {
      await sh(`${virsh} domjobabort ${machine.launcher.name} || true; rm -rf ${JOB} ${SCRATCH}`);
    }
    return read;
  }

  async function agentOf(machine: Machine, name: string): Promise<Pod> {
    await admin.apply([await agentPod(machine, name)]);
    return await podWhen(admin, name, runs);
  }

  test("makes of a machine what KubeVirt makes: instance, pod, directories, domain", async () => {
    await admin.apply(vmObjects({ name: "shape", volumes: [...three] }));
    const machine = await kubevirt.machine("shape");
    const [instance, vm, pod] = [
      await vmi("shape"),
      await admin.get<KubeObject & Status>("vm", "shape"),
      await admin.get<Pod>("pod", machine.pod.metadata.name),
    ];
    expect(instance.metadata.ownerReferences).toMatchObject([{ kind: "VirtualMachine", uid: vm.metadata.uid, controller: true }]);
    expect(instance.status).toMatchObject({
      phase: "Running",
      nodeName: machine.node,
      runtimeUser: 107,
      activePods: { [pod.metadata.uid]: machine.node },
    });
    expect(vm.status).toMatchObject({ created: true, ready: true, printableStatus: "Running" });
    expect(pod.metadata).toMatchObject({
      name: expect.stringMatching(/^virt-launcher-shape-\w{5}$/),
      labels: { "kubevirt.io": "virt-launcher", "kubevirt.io/created-by": instance.metadata.uid, "vmi.kubevirt.io/id": "shape" },
      annotations: { "kubevirt.io/domain": "shape" },
      ownerReferences: [{ kind: "VirtualMachineInstance", uid: instance.metadata.uid, controller: true }],
    });
    const volumes = join(nodes.podDir(pod), "volumes/kubernetes.io~empty-dir");
    for (const path of ["libvirt-runtime/virtqemud-sock", "private", "ephemeral-disks", "sockets"])
      expect(existsSync(join(volumes, path))).toBe(true);
    const xml = await machine.launcher.virsh("dumpxml", "default_shape");
    const { uuid } = (vm as unknown as { spec: { template: { spec: { domain: { firmware: { uuid: string } } } } } }).spec.template.spec
      .domain.firmware;
    for (const part of [
      `<uuid>${uuid}</uuid>`,
      "<source file='/var/run/kubevirt-private/vmi-disks/root/disk.img'",
      "<source dev='/dev/data'",
      "<alias name='ua-root'/>",
      "<alias name='ua-data'/>",
      "<alias name='ua-other'/>",
      "<target dev='sda' bus='scsi'/>",
    ])
      expect(xml).toContain(part);
    expect(instance.status["volumeStatus"]).toMatchObject([
      { name: "root", target: "vda", persistentVolumeClaimInfo: { claimName: "shape-root", volumeMode: "Filesystem" } },
      { name: "data", target: "vdb", persistentVolumeClaimInfo: { claimName: "shape-data", volumeMode: "Block" } },
      { name: "other", target: "sda" },
    ]);
  });

  test("lets an agent in another pod reach libvirt, scratch and NBD under the same paths: what it reads is the disk", async () => {
    const machine = await kubevirt.machine("shape");
    await machine.write("root", "write -P 1 1M 64k");
    await machine.write("data", "write -P 2 2M 64k");
    await machine.write("other", "write -P 3 3M 64k");
    const agent = await agentOf(machine, "agent-shape");
    expect(await nodes.exec(agent, ["stat", "-c", "%F", SOCKET])).toBe("socket\n");
    const read = await pull(machine, agent, { disks: ["root", "data", "other"] });
    for (const [index, { name }] of three.entries()) {
      const truth = await machine.snapshot(name);
      const size = name === "data" ? 64 * MIB : 60 * MIB;
      const expected = await createImage(`${truth}.expected`, { size, format: "raw" });
      await qemuIo(expected, `write -P ${index + 1} ${index + 1}M 64k`);
      expect(await compareRaw(truth, expected), name).toBeUndefined();
      expect(await compareRaw(read.get(name) ?? "", expected), name).toBeUndefined();
    }
    await admin.kubectl(["delete", "pod", "agent-shape"]);
    await kubevirt.setRunStrategy("shape", "Halted");
    expect((await admin.get<{ items: object[] }>("vmi")).items).toEqual([]);
    expect((await admin.get<{ items: object[] }>("pvc")).items).toHaveLength(3);
  });

  test("tracks blocks of raw disks; a restart forgets checkpoints and keeps bitmaps, a power cut spoils them", async () => {
    await admin.apply(vmObjects({ name: "cbt", tracksBlocks: true, volumes: [{ name: "root" }, { name: "data", mode: "Block" }] }));
    const disks = ["root", "data"];
    const machine = await kubevirt.machine("cbt");
    expect((await vmi("cbt")).status).toMatchObject({ changedBlockTracking: { state: "Enabled" } });
    await machine.write("root", "write -P 1 0 64k");
    const agent = await agentOf(machine, "agent-cbt");
    const overlay = await nodes.exec(agent, ["qemu-img", "info", "-U", "/var/run/kubevirt-private/libvirt/qemu/cbt/root.qcow2"]);
    expect(overlay).toContain("data file: /var/run/kubevirt-private/vmi-disks/root/disk.img");
    await pull(machine, agent, { checkpoint: "one", disks });
    await machine.write("root", "write -P 2 1M 64k");
    await machine.write("data", "write -P 3 2M 128k");
    const xml = await machine.launcher.virsh("checkpoint-dumpxml", "default_cbt", "one", "--no-domain");
    const again = await kubevirt.restart("cbt");
    expect([again.pod.metadata.uid === machine.pod.metadata.uid, again.vmi.metadata.uid === machine.vmi.metadata.uid]).toEqual([
      false,
      false,
    ]);
    expect(await again.launcher.virsh("checkpoint-list", "--name", "default_cbt")).toBe("");
    await nodes.exec(again.pod, ["tee", "/tmp/one.xml"], xml);
    await again.launcher.virsh("checkpoint-create", "default_cbt", "/tmp/one.xml", "--redefine");
    await admin.kubectl(["delete", "pod", "agent-cbt"]);
    const dirty = await pull(again, await agentOf(again, "agent-again"), { since: "one", disks });
    expect(Object.fromEntries(dirty)).toEqual({ root: `${MIB}+65536\n`, data: `${2 * MIB}+131072\n` });
    await admin.kubectl(["delete", "pod", "agent-again"]);
    const cut = await kubevirt.restart("cbt", { hard: true });
    const info = await cut.launcher.exec("qemu-img", "info", "-U", "/var/run/kubevirt-private/libvirt/qemu/cbt/root.qcow2");
    expect(info).toMatch(/\[0\]: in-use\n[^]*name: one\n/);
    await kubevirt.setRunStrategy("cbt", "Halted");
    const root = cut.disks[0];
    const expected = await createImage(join(nodes.dir, "cbt.raw"), { size: 60 * MIB, format: "raw" });
    await qemuIo(expected, "write -P 1 0 64k", "write -P 2 1M 64k");
    expect(await compareRaw(await contentOf(nodes, root!), expected)).toBeUndefined();
  });

  test("migrates: both pods are known while it lasts, the machine stays when it fails and goes on elsewhere when it does not", async () => {
    await admin.apply(vmObjects({ name: "moved", node: "node-a", volumes: [{ name: "root", qcow2: true }] }));
    const machine = await kubevirt.machine("moved");
    await machine.write("root", "write -P 5 1M 64k");
    const source = machine.pod;
    const failing = await kubevirt.migrate("moved", "node-b");
    const during = (await vmi("moved")).status;
    expect(during).toMatchObject({
      nodeName: "node-a",
      migrationState: { sourceNode: "node-a", targetNode: "node-b", sourcePod: source.metadata.name },
    });
    expect(Object.values(during["activePods"] as Record<string, string>).toSorted()).toEqual(["node-a", "node-b"]);
    expect(during["migrationState"]).not.toHaveProperty("endTimestamp");
    const [migration] = (await admin.get<{ items: (KubeObject & Status)[] }>("vmim")).items;
    expect(migration).toMatchObject({ spec: { vmiName: "moved" }, status: { phase: "Running" } });
    const targets = await admin.get<{ items: Pod[] }>("pods", "-l", `kubevirt.io/migrationJobUID=${migration?.metadata.uid}`);
    expect(targets.items).toMatchObject([{ spec: { nodeName: "node-b" } }]);
    await failing.fail();
    expect((await vmi("moved")).status).toMatchObject({
      nodeName: "node-a",
      activePods: { [source.metadata.uid]: "node-a" },
      migrationState: { failed: true },
    });
    await (await kubevirt.migrate("moved", "node-b")).complete();
    const after = (await vmi("moved")).status;
    expect(after).toMatchObject({
      phase: "Running",
      nodeName: "node-b",
      activePods: { [machine.pod.metadata.uid]: "node-b" },
      migrationState: { completed: true },
    });
    expect([machine.node, machine.pod.metadata.uid === source.metadata.uid]).toEqual(["node-b", false]);
    await machine.write("root", "read -P 5 1M 64k");
    await kubevirt.setRunStrategy("moved", "Halted");
  });

  test("boots a guest from any machine's claims, freezes and thaws it, and thaws it by itself", async () => {
    const volumes = [{ name: "root", size: "256Mi" }];
    await admin.apply(vmObjects({ name: "first", guest: true, volumes }));
    const first = await kubevirt.machine("first");
    await first.launcher.guest.sh("echo kept >/data/file; sync");
    expect((await vmi("first")).status.conditions).toContainEqual({ type: "AgentConnected", status: "True" });
    const state = (): Promise<string> => first.launcher.virsh("qemu-agent-command", "default_first", '{"execute":"guest-fsfreeze-status"}');
    await put("first", "freeze", { unfreezeTimeout: "5m0s" });
    await put("first", "freeze");
    expect(await state()).toContain("frozen");
    expect((await vmi("first")).status["fsFreezeStatus"]).toBe("frozen");
    await put("first", "unfreeze");
    expect(await state()).toContain("thawed");
    expect((await vmi("first")).status).not.toHaveProperty("fsFreezeStatus");
    await put("first", "freeze", { unfreezeTimeout: "1s" });
    expect(await eventually(state, (said) => said.includes("thawed"))).toContain("thawed");
    await kubevirt.setRunStrategy("first", "Halted");
    // A machine that somebody else makes, as a restore does: Halted first, then Always.
    const [, made] = vmObjects({ name: "second", guest: true, volumes, runStrategy: "Halted" });
    const text = JSON.stringify(made).replace("second-root", "first-root");
    await admin.apply([JSON.parse(text) as object]);
    expect(kubevirt.runs("second")).toBe(false);
    await admin.kubectl(["patch", "vm", "second", "--type=merge", "-p", '{"spec":{"runStrategy":"Always"}}']);
    const second = await kubevirt.machine("second");
    expect(await second.launcher.guest.sh("cat /data/file")).toBe("kept");
    await admin.kubectl(["delete", "vm", "second"]);
    expect(await eventually(() => kubevirt.runs("second"), (is) => !is)).toBe(false); // prettier-ignore
  });

  test("refuses to freeze what cannot be frozen, and starts anew what lost its pod or its instance", async () => {
    await admin.apply(vmObjects({ name: "plain", volumes: [{ name: "root" }] }));
    const machine = await kubevirt.machine("plain");
    await expect(put("plain", "freeze")).rejects.toMatchObject({ reason: "InternalError", message: /guest agent/i });
    await expect(put("nobody", "freeze")).rejects.toMatchObject({ reason: "NotFound" });
    nodes.evict(machine.pod);
    const renewed = async (before: Machine): Promise<Machine> => {
      await eventually(() => kubevirt.machine("plain"), (now) => now !== before); // prettier-ignore
      return await kubevirt.machine("plain");
    };
    const second = await renewed(machine);
    expect(second.vmi.metadata.uid).not.toBe(machine.vmi.metadata.uid);
    await admin.kubectl(["delete", "vmi", "plain"]);
    const third = await renewed(second);
    expect(third.pod.metadata.uid).not.toBe(second.pod.metadata.uid);
    await third.write("root", "write -P 1 0 64k");
  });
});
