import { createHash, randomBytes } from "node:crypto";
import { chownSync, closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { RestoreRequest, VirtualMachineBackup } from "../../src/api/index.ts";
import { captureMachine } from "../../src/controller/kubevirt/capture.ts";
import { gatherFacts } from "../../src/controller/kubevirt/gather.ts";
import { connectKube } from "../../src/kube/index.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { applyKubeVirt, ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator, type Pod, projectImage } from "../node/index.ts";
import { eventually } from "../node/world.ts";
import { applyCrds, conditionWhen, configuration, NAMESPACE, Operator, repositoryObjects, type Seen } from "./operator.ts";

const MIB = 2 ** 20;
const SHOP = "shop";
const RESTORED = "thinstream.dev/restored";

interface Machine {
  readonly metadata: { readonly uid: string; readonly resourceVersion: string; readonly annotations: Readonly<Record<string, string>> };
  readonly spec: {
    readonly runStrategy: string;
    readonly template: {
      readonly spec: {
        readonly volumes: readonly { readonly name: string; readonly persistentVolumeClaim?: { readonly claimName: string } }[];
      };
    };
  };
}

interface Claim {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly volumeName: string; readonly volumeMode: string };
}

describe.skipIf(skipWithout("cluster", "host", "s3"))("a stopped virtual machine, by the operator", () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let world: World;
  let repo: Repo;
  let operator: Operator;
  let content: { readonly root: string; readonly data: string };

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("restore");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    for (const name of [NAMESPACE, SHOP, "other"]) await plane.admin.kubectl(["create", "namespace", name]);
    await applyKubeVirt(plane.admin);
    await applyCrds(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a", "node-b"] });
    await plane.admin.apply([...repositoryObjects("main", repo)]);
    operator = new Operator(plane);
    await operator.start();
    await plane.admin.apply([
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "user-data", namespace: SHOP },
        stringData: { userdata: "#cloud-config of web" },
      },
      claim("web-root", "Filesystem", 96),
      claim("web-data", "Block", 16),
    ]);
    content = { root: await fill("web-root", 64), data: await fill("web-data", 16) };
    await plane.admin.apply([webMachine()]);
  });
  afterAll(async () => {
    await operator?.stop();
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  /** Where a claim's disk lies on this machine. */
  async function diskOf(name: string): Promise<string> {
    await plane.admin.kubectl(["wait", "--for=jsonpath={.status.phase}=Bound", `pvc/${name}`, "-n", SHOP, "--timeout=60s"]);
    const bound = await plane.admin.get<Claim>("pvc", name, "-n", SHOP);
    const path = nodes.volumes.pathOf(bound.spec.volumeName);
    return bound.spec.volumeMode === "Block" ? path : join(path, "disk.img");
  }

  /** Writes a disk of this many MiB, with data and holes, into a claim's volume. @returns its digest */
  async function fill(name: string, mib: number): Promise<string> {
    const path = await diskOf(name);
    mkdirSync(dirname(path), { recursive: true });
    const file = openSync(path, name.includes("data") ? "r+" : "w");
    ftruncateSync(file, mib * MIB);
    for (const at of [0, 3, mib / 2, mib - 1]) writeSync(file, randomBytes(MIB), 0, MIB, at * MIB);
    closeSync(file);
    chownSync(path, 107, 107);
    return digest(path);
  }

  async function ended(kind: string, name: string, namespace: string = SHOP): Promise<Seen> {
    return await conditionWhen(
      plane.admin,
      { kind, name, namespace, type: "Succeeded" },
      ({ status }) => status !== "Unknown" && status !== "",
      150_000,
    );
  }

  async function machine(name: string): Promise<Machine> {
    return await plane.admin.get<Machine>("vm", name, "-n", SHOP);
  }

  /** Not those that read the catalog: a controller that starts anew begins with that. */
  async function podsOf(namespace: string): Promise<string> {
    return (
      await plane.admin.kubectl(["get", "pods", "-n", namespace, "-l", "thinstream.dev/work,thinstream.dev/work!=catalog", "-o", "name"])
    ).trim();
  }

  /** While the point is read, the volumes are held, the disks are written, the machine is made; wherever it is by then. */
  async function killAndStart(after: readonly number[]): Promise<void> {
    for (const ms of after) {
      await new Promise((resolve) => setTimeout(resolve, ms));
      await operator.stop("SIGKILL");
      await operator.start();
    }
  }

  function fromPoint(): object {
    return { repository: { name: "main", vm: { name: "web" } } };
  }

  test("is backed up with its objects through a holder", async () => {
    await conditionWhen(plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
    await plane.admin.apply([
      {
        apiVersion: "thinstream.dev/v1alpha1",
        kind: "VirtualMachineBackup",
        metadata: { name: "first", namespace: SHOP },
        spec: { source: { virtualMachine: { name: "web" } }, repositoryRef: { name: "main" } },
      },
    ]);
    const end = await ended("tvmb", "first");
    expect(end, operator.log.slice(-4000)).toMatchObject({ status: "True", reason: "Completed" });
    const { status } = await plane.admin.get<VirtualMachineBackup>("tvmb", "first", "-n", SHOP);
    expect(status).toMatchObject({ engine: "Image", level: "Full", consistency: "Offline" });
    await expect.poll(async () => await podsOf(SHOP), { timeout: 30_000 }).toBe("");
  });

  test("is restored under a new name: disks, Secret, stopped machine, then its run strategy", async () => {
    await plane.admin.kubectl(["delete", "secret", "user-data", "-n", SHOP]);
    await plane.admin.apply([request("copy", fromPoint(), { name: "web-copy", runStrategy: "Manual" })]);
    const end = await ended("rr", "copy");
    expect(end, operator.log.slice(-6000)).toMatchObject({ status: "True", reason: "Completed" });
    const { status } = await plane.admin.get<RestoreRequest>("rr", "copy", "-n", SHOP);
    expect(status).toMatchObject({
      attempts: 1,
      vmRef: { namespace: SHOP, name: "web-copy" },
      pvcs: [
        { disk: "data", name: "web-copy-data" },
        { disk: "root", name: "web-copy-root" },
      ],
    });
    const backup = await plane.admin.get<VirtualMachineBackup>("tvmb", "first", "-n", SHOP);
    expect(status?.pointId).toBe(backup.status?.pointId);
    expect(digest(await diskOf("web-copy-root"))).toBe(content.root);
    expect(digest(await diskOf("web-copy-data"))).toBe(content.data);
    const made = await machine("web-copy");
    expect(made.spec.runStrategy).toBe("Manual");
    expect(made.spec.template.spec.volumes.map(({ name, persistentVolumeClaim }) => [name, persistentVolumeClaim?.claimName])).toEqual([
      ["root", "web-copy-root"],
      ["data", "web-copy-data"],
      ["init", undefined],
    ]);
    const secret = await plane.admin.get<{ data: { userdata: string } }>("secret", "user-data", "-n", SHOP);
    expect(atob(secret.data.userdata)).toBe("#cloud-config of web");
    await expect.poll(async () => `${await podsOf(SHOP)}${await podsOf(NAMESPACE)}`, { timeout: 30_000 }).toBe("");
  });

  test("applied twice it does nothing more, nor does a controller that starts anew", async () => {
    const before = await machine("web-copy");
    await operator.stop("SIGKILL");
    await operator.start();
    await plane.admin.apply([request("copy", fromPoint(), { name: "web-copy", runStrategy: "Manual" })]);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect((await machine("web-copy")).metadata.resourceVersion).toBe(before.metadata.resourceVersion);
    expect(`${await podsOf(SHOP)}${await podsOf(NAMESPACE)}`).toBe("");
  });

  test("is restored once by controllers that are killed", async () => {
    await plane.admin.apply([request("twin", fromPoint(), { name: "web-twin" })]);
    await killAndStart([300, 200, 300, 400, 600, 900]);
    const end = await ended("rr", "twin");
    expect(end, operator.log.slice(-6000)).toMatchObject({ status: "True", reason: "Completed" });
    expect((await plane.admin.get<RestoreRequest>("rr", "twin", "-n", SHOP)).status?.attempts).toBe(1);
    expect(digest(await diskOf("web-twin-root"))).toBe(content.root);
    expect(digest(await diskOf("web-twin-data"))).toBe(content.data);
    expect((await machine("web-twin")).spec.runStrategy).toBe("Halted");
  });

  test("is right where its agent is killed when one disk is written and the other is not", async () => {
    nodes.image(configuration.image, { ...projectImage, env: { THINSTREAM_STEPS: "/tmp/steps", THINSTREAM_PAUSE_AT: "disk-written" } });
    await plane.admin.apply([request("lost", fromPoint(), { name: "web-lost", runStrategy: "Manual" })]);
    const agents = async (): Promise<readonly Pod[]> =>
      (await plane.admin.get<{ items: readonly Pod[] }>("pods", "-n", NAMESPACE, "-l", "thinstream.dev/work=restore")).items;
    const [agent] = await eventually(agents, (found) => found.length > 0);
    if (agent === undefined) throw new Error("the restore has no agent");
    const steps = join(nodes.podDir(agent), "volumes/kubernetes.io~empty-dir/tmp/steps");
    await expect.poll(() => existsSync(steps), { timeout: 90_000 }).toBe(true);
    const written = async (): Promise<object> => ({
      root: digest(await diskOf("web-lost-root")),
      data: digest(await diskOf("web-lost-data")),
    });
    expect(await written()).not.toEqual(content);
    nodes.image(configuration.image, projectImage);
    nodes.oomKill(agent);
    expect(await ended("rr", "lost"), operator.log.slice(-6000)).toMatchObject({ status: "True", reason: "Completed" });
    const { status } = await plane.admin.get<RestoreRequest>("rr", "lost", "-n", SHOP);
    expect(status).toMatchObject({ attempts: 2, lastFailure: { message: expect.stringMatching(/more memory/) } });
    expect(await written()).toEqual(content);
    expect((await machine("web-lost")).spec.runStrategy).toBe("Manual");
    await expect.poll(async () => `${await podsOf(SHOP)}${await podsOf(NAMESPACE)}`, { timeout: 30_000 }).toBe("");
  });

  test("is kept without its Secrets where the repository is not encrypted", async () => {
    const client = await connectKube({ kubeconfig: plane.admin.kubeconfig });
    const signal = AbortSignal.timeout(30_000);
    const facts = await gatherFacts(client, { namespace: SHOP, name: "web" }, signal);
    const open = await captureMachine(client, facts, { encrypted: false, signal });
    const closed = await captureMachine(client, facts, { encrypted: true, signal });
    client.close();
    const secret = btoa("#cloud-config of web");
    expect([open.text.includes(secret), closed.text.includes(secret)]).toEqual([false, true]);
    expect(open.warnings).toEqual(["not kept, for the repository is not encrypted: Secret/shop/user-data"]);
    expect(closed.warnings).toEqual([]);
  });

  test("is left alone where it is there and existing is Fail, or Skip", async () => {
    const source = fromPoint();
    await plane.admin.apply([request("again", source, { name: "web" }), request("skip", source, { name: "web", existing: "Skip" })]);
    const refused = await ended("rr", "again");
    expect(refused).toMatchObject({ status: "False", reason: "TargetExists" });
    expect(refused.message).toBe(
      "the VirtualMachine shop/web is there already: restore under another name, or set existing to Replace to overwrite its disks",
    );
    expect(await ended("rr", "skip")).toMatchObject({ status: "True", reason: "Skipped" });
    expect(digest(await diskOf("web-root"))).toBe(content.root);
  });

  test("is overwritten in place where existing is Replace, once it is stopped, by controllers that are killed", async () => {
    rmSync(await diskOf("web-root"));
    await fill("web-root", 64);
    await fill("web-data", 16);
    await plane.admin.kubectl(["patch", "vm", "web", "-n", SHOP, "--type=merge", "-p", '{"spec":{"runStrategy":"Always"}}']);
    await plane.admin.apply([request("undo", fromPoint(), { name: "web", existing: "Replace", runStrategy: "Halted" })]);
    const stalls = await conditionWhen(
      plane.admin,
      { kind: "rr", name: "undo", namespace: SHOP, type: "Stalled" },
      ({ reason }) => reason === "TargetRunning",
    );
    expect(stalls.message).toBe("the VirtualMachine shop/web runs, or is to run: stop it, and the restore begins");
    await plane.admin.kubectl(["patch", "vm", "web", "-n", SHOP, "--type=merge", "-p", '{"spec":{"runStrategy":"Manual"}}']);
    await killAndStart([0, 500, 1_000, 1_500]);
    const end = await ended("rr", "undo");
    expect(end, operator.log.slice(-6000)).toMatchObject({ status: "True", reason: "Completed" });
    expect(digest(await diskOf("web-root"))).toBe(content.root);
    expect(digest(await diskOf("web-data"))).toBe(content.data);
    expect((await plane.admin.get<RestoreRequest>("rr", "undo", "-n", SHOP)).status?.attempts).toBe(1);
    const { metadata, spec } = await machine("web");
    const { uid } = (await plane.admin.get<{ metadata: { uid: string } }>("rr", "undo", "-n", SHOP)).metadata;
    expect([spec.runStrategy, metadata.annotations[RESTORED]]).toEqual(["Halted", uid]);
  });

  test("is refused to another namespace, and to a libvirt target", async () => {
    await plane.admin.apply([
      request("stolen", { repository: { name: "main", vm: { name: "web", namespace: SHOP } } }, { name: "web-x" }, "other"),
      request("elsewhere", fromPoint(), { name: "web-x", namespace: "other" }),
      {
        ...request("libvirt", fromPoint(), {}),
        spec: { source: fromPoint(), target: { libvirt: { nodeName: "node-a", directory: "/var/x", name: "x" } } },
      },
    ]);
    expect(await ended("rr", "stolen", "other")).toMatchObject({ status: "False", reason: "NotPermitted" });
    expect(await ended("rr", "elsewhere")).toMatchObject({ status: "False", reason: "NotPermitted" });
    expect(await ended("rr", "libvirt")).toMatchObject({ status: "False", reason: "TargetNotSupported" });
  });

  test("is not given away by a RestorePoint that somebody made up", async () => {
    const { status } = await plane.admin.get<VirtualMachineBackup>("tvmb", "first", "-n", SHOP);
    const [real] = (await plane.admin.get<{ items: readonly { spec: object }[] }>("rp", "-n", SHOP)).items;
    const spec = { ...real?.spec, vm: { name: "web", namespace: "other" } };
    await plane.admin.apply([
      { apiVersion: "thinstream.dev/v1alpha1", kind: "RestorePoint", metadata: { name: "made-up", namespace: "other" }, spec },
      request("thief", { restorePointRef: { name: "made-up" } }, { name: "loot" }, "other"),
    ]);
    const refused = await ended("rr", "thief", "other");
    expect(refused, operator.log.slice(-4000)).toMatchObject({ status: "False", reason: "NotPermitted" });
    expect(refused.message).toContain(`${status?.pointId} is of a machine of namespace shop`);
    expect((await plane.admin.kubectl(["get", "pvc,secret,vm", "-n", "other", "-o", "name"])).trim()).toBe("");
  });
});

function digest(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function claim(name: string, volumeMode: string, mib: number): object {
  const spec = {
    accessModes: ["ReadWriteOnce"],
    volumeMode,
    storageClassName: "immediate",
    resources: { requests: { storage: `${mib}Mi` } },
  };
  return { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name, namespace: SHOP }, spec };
}

function webMachine(): object {
  const disks = ["root", "data", "init"].map((name) => ({ name, disk: { bus: "virtio" } }));
  const volumes = [
    { name: "root", persistentVolumeClaim: { claimName: "web-root" } },
    { name: "data", persistentVolumeClaim: { claimName: "web-data" } },
    { name: "init", cloudInitNoCloud: { secretRef: { name: "user-data" } } },
  ];
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name: "web", namespace: SHOP },
    spec: { runStrategy: "Halted", template: { spec: { domain: { devices: { disks } }, volumes } } },
  };
}

function request(name: string, source: object, virtualMachine: object, namespace: string = SHOP): object {
  return {
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "RestoreRequest",
    metadata: { name, namespace },
    spec: { source, target: { virtualMachine } },
  };
}
