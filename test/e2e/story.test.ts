import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RestorePoint, VirtualMachineBackup } from "../../src/api/index.ts";
import { expectRestore, type Taken, Vm } from "../acceptance/vm.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { chart, valuesFile } from "../chart/chart.ts";
import { ControlPlane, type Identity } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { conditionWhen, NAMESPACE, repositoryObjects, type Seen } from "../operator/operator.ts";
import { IMAGE, NODE_ADDRESS } from "./config.ts";
import { Node } from "./node.ts";

const GRANULE = 65_536;
const NODE = "node-a";
const CONTROLLER = ["-n", NAMESPACE, "-l", "app.kubernetes.io/component=controller"] as const;

interface Pod {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly status: { readonly phase: string; readonly containerStatuses: readonly { readonly restartCount: number }[] };
}
interface Named {
  readonly metadata: { readonly name: string; readonly uid: string };
}

describe.skipIf(skipWithout("cluster", "host", "guest", "s3", "e2e"))("on a real node, from our image, by helm", () => {
  let plane: ControlPlane;
  let admin: Identity;
  let node: Node;
  let world: World;
  let repo: Repo;
  let vm: Vm;
  let values: { readonly [name: string]: unknown };
  const taken: Taken[] = [];

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("e2e");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    admin = plane.admin;
    node = await Node.start(plane, NODE);
    await node.place("/var/run/libvirt", `${world.lab.dir}/s`);
    await node.expose(Number(new URL(repo.url).searchParams.get("endpoint")?.split(":").at(-1)));
    vm = await Vm.start(world, { vda: { size: "256M" } }, { guest: true });
    // The guest writes to the disk itself: a file system's own writes would make it another disk than the one that is compared.
    await vm.domain.guest.sh("umount /data");
    await admin.kubectl(["create", "namespace", NAMESPACE]);
    const objects = repositoryObjects("main", { ...repo, url: repo.url.replace("127.0.0.1", NODE_ADDRESS) });
    await admin.apply(objects.slice(0, -1));
    const { spec } = objects.at(-1) as { spec: object };
    const [repository, tag] = IMAGE.split(":");
    // More than its usual share: one that a busy machine keeps from renewing its lease ends, as it should, and these tests are not about that.
    const resources = { requests: { cpu: "1", memory: "128Mi" }, limits: { memory: "512Mi" } };
    values = { image: { repository, tag }, controller: { resources }, repositories: { main: spec } };
  });
  afterAll(async () => {
    await node?.stop();
    await plane?.stop();
    await world?.stop();
  });

  test("the controller runs, as nobody, on a file system that it cannot write to, and reads the repository", async () => {
    await helm("install", values);
    const pod = await controller();
    expect(pod.status).toMatchObject({ phase: "Running", containerStatuses: [{ ready: true, restartCount: 0 }] });
    expect(await inPod(pod, "id -u; id -g")).toBe("65532\n65532\n");
    await expect(inPod(pod, "touch /opt/thinstream/x")).rejects.toThrow(/Read-only file system/);
    expect(await ready(), await said()).toMatchObject({ status: "True", reason: "Available" });
  });

  test("a running domain of the node is backed up: in full, then what its guest wrote, and nothing of the agents stays", async () => {
    await vm.domain.guest.sh("dd if=/dev/urandom of=/dev/vda bs=1M count=24 conv=fsync 2>/dev/null");
    const full = await backUp("first");
    expect(full).toMatchObject({ level: "Full", attempts: 1, engine: "LibvirtPull", nodeName: NODE });
    await vm.domain.guest.sh("dd if=/dev/urandom of=/dev/vda bs=64k seek=77 count=1 conv=fsync 2>/dev/null");
    const incremental = await backUp("second");
    expect(incremental).toMatchObject({ level: "Incremental", disks: [{ dirtyBytes: GRANULE }] });
    await vm.expectTidy();
    expect((await admin.get<{ items: RestorePoint[] }>("rp", "-n", NAMESPACE)).items.map(({ spec }) => spec.pointId).toSorted()).toEqual(
      taken.map(({ backup }) => backup.point).toSorted(),
    );
    await expect.poll(agents, { timeout: 60_000 }).toBe("");
  });

  test("the command line restores both points bit for bit, without the cluster", async () => {
    for (const point of taken) await expectRestore(world, point);
    await world.expectClean(repo);
  });

  test("kubectl describe tells how it went", async () => {
    const text = await admin.kubectl(["describe", "tvmb", "second", "-n", NAMESPACE]);
    const events = text.slice(text.indexOf("Events:"));
    expect(events).toMatch(/Normal +BackupStarted .*agent ts-backup-\w+-1 on node node-a/);
    expect(events).toMatch(/BackupSucceeded .*restore point \S+: Incremental/);
  });

  test("an agent that fails on the node leaves its own words", async () => {
    await admin.apply([
      runOf("nobody", { backoffLimit: 0, source: { libvirt: { nodeName: NODE, uri: "qemu:///system", domain: "nobody" } } }),
    ]);
    const done = await ended("nobody");
    expect(done).toMatchObject({ status: "False", reason: "BackoffLimitExceeded" });
    expect(await admin.kubectl(["describe", "tvmb", "nobody", "-n", NAMESPACE])).toMatch(/Domain not found.*'nobody'/);
    await expect.poll(agents, { timeout: 60_000 }).toBe("");
  });

  test("a run whose agent's image the node cannot get says so, and goes on when it is there", async () => {
    await node.removeImage();
    await vm.domain.guest.sh("dd if=/dev/urandom of=/dev/vda bs=64k seek=88 count=1 conv=fsync 2>/dev/null");
    const references = await vm.references();
    await admin.apply([runOf("imageless")]);
    const waits = { kind: "tvmb", name: "imageless", namespace: NAMESPACE, type: "Succeeded" };
    try {
      const seen = await conditionWhen(admin, waits, ({ message }) => message.includes("does not start"));
      expect(seen.message).toMatch(/^the agent ts-backup-\w+-1 does not start: .*localhost\/thinstream:test/);
    } finally {
      await node.bringImage();
    }
    expect(await taking("imageless", references)).toMatchObject({ level: "Incremental", attempts: 1, disks: [{ dirtyBytes: GRANULE }] });
    await expectRestore(world, taken.at(-1) as Taken);
  });

  test("an upgrade brings older kinds up to date in a Job of the image, and rolls the controller, which goes on", async () => {
    const before = await controller();
    // As an older version would have left it.
    await admin.kubectl(["annotate", "--overwrite", "crd", "restorepoints.thinstream.dev", "thinstream.dev/definition=0000000000000000"]);
    await helm("upgrade", { ...values, maxAgents: 7 });
    await expect.poll(async () => (await controllers()).map(({ metadata }) => metadata.name), { timeout: 90_000 }).toHaveLength(1);
    const after = await controller();
    expect(after.metadata.uid).not.toBe(before.metadata.uid);
    expect(after.status.phase).toBe("Running");
    expect(await admin.kubectl(["get", "crd", "restorepoints.thinstream.dev", "-o", "yaml"])).not.toContain("0000000000000000");
    expect(await inPod(after, "cat /etc/thinstream/config.json")).toMatch(/"maxAgents": 7/);
    await vm.domain.guest.sh("dd if=/dev/urandom of=/dev/vda bs=64k seek=99 count=2 conv=fsync 2>/dev/null");
    expect(await backUp("third")).toMatchObject({ level: "Incremental", disks: [{ dirtyBytes: 2 * GRANULE }] });
    await expectRestore(world, taken.at(-1) as Taken);
  });

  test("nobody of ours was refused anything", () => {
    const ours = plane.requests().filter(({ user }) => user.startsWith(`system:serviceaccount:${NAMESPACE}:`));
    expect(ours.length).toBeGreaterThan(50);
    expect(ours.filter(({ code }) => code === 401 || code === 403)).toEqual([]);
  });

  test("uninstalling leaves the kinds and every object of them; the next install shows the bucket's catalog again", async () => {
    const before = await named("tvmb,rp,bkrepo");
    expect(before.length).toBe(5 + 4 + 1);
    await admin.helm(["uninstall", "thinstream", "-n", NAMESPACE, "--wait", "--timeout", "3m"], { timeoutMs: 240_000 });
    const left = async (): Promise<readonly string[]> => {
      const text = await admin.kubectl(["get", "deploy,rs,pods,svc,cm,sa,role,rolebinding,pdb,job", "-n", NAMESPACE, "-o", "name"]);
      return text.split("\n").filter((name) => name.includes("thinstream") || name.startsWith("pod/"));
    };
    await expect.poll(left, { timeout: 120_000 }).toEqual([]);
    const roles = await admin.kubectl(["get", "clusterrole,clusterrolebinding", "-o", "name"]);
    expect(roles.split("\n").filter((name) => name.includes("thinstream"))).toEqual([]);
    expect((await named("crd")).filter(({ metadata }) => metadata.name.endsWith(".thinstream.dev"))).toHaveLength(5);
    expect(await named("tvmb,rp,bkrepo")).toEqual(before);
    // What was only a mirror comes back from the bucket.
    await admin.kubectl(["delete", "rp", "--all", "-n", NAMESPACE, "--timeout=60s"]);
    await helm("install", values);
    await expect
      .poll(async () => (await named("rp")).map(({ metadata }) => metadata.name).toSorted(), { timeout: 120_000 })
      .toEqual(before.flatMap((one) => (one.kind === "RestorePoint" ? [one.metadata.name] : [])).toSorted());
    expect(await ready(), await said()).toMatchObject({ status: "True", reason: "Available" });
  });

  async function helm(verb: "install" | "upgrade", given: object): Promise<void> {
    const args = [verb, "thinstream", chart, "-n", NAMESPACE, "-f", valuesFile(given), "--wait", "--timeout", "4m"];
    await admin.helm(args, { timeoutMs: 300_000 }).catch(async (cause: unknown) => {
      throw new Error(`${String(cause)}\n${await said()}`, { cause });
    });
  }

  async function controllers(): Promise<readonly Pod[]> {
    return (await admin.get<{ items: readonly Pod[] }>("pods", ...CONTROLLER)).items;
  }

  async function controller(): Promise<Pod> {
    const [pod, ...others] = await controllers();
    if (pod === undefined || others.length > 0) throw new Error(`there are ${others.length + (pod === undefined ? 0 : 1)} controllers`);
    return pod;
  }

  function inPod(pod: Pod, script: string): Promise<string> {
    return admin.kubectl(["exec", "-n", NAMESPACE, pod.metadata.name, "--", "sh", "-c", script]);
  }

  function ready(): Promise<Seen> {
    return conditionWhen(admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
  }

  /** What the cluster says of our pods, for the one who reads why a test failed. */
  async function said(): Promise<string> {
    const [pods, log] = await Promise.all(
      [
        ["describe", "pods", "-n", NAMESPACE],
        ["logs", ...CONTROLLER, "--tail=40"],
      ].map((args) => admin.kubectl(args).catch(String)),
    );
    return `${pods}\n${log}`;
  }

  function runOf(name: string, spec: object = {}): object {
    return {
      apiVersion: "thinstream.dev/v1alpha1",
      kind: "VirtualMachineBackup",
      metadata: { name, namespace: NAMESPACE },
      spec: {
        source: { libvirt: { nodeName: NODE, uri: "qemu:///system", domain: vm.name } },
        repositoryRef: { name: "main" },
        ...spec,
      },
    };
  }

  function ended(name: string): Promise<Seen> {
    const run = { kind: "tvmb", name, namespace: NAMESPACE, type: "Succeeded" };
    return conditionWhen(admin, run, ({ status }) => status === "True" || status === "False", 180_000);
  }

  /** A backup that must succeed; what the disks were is kept beside its point. */
  async function backUp(name: string): Promise<VirtualMachineBackup["status"]> {
    const references = await vm.references();
    await admin.apply([runOf(name)]);
    return await taking(name, references);
  }

  async function taking(name: string, references: Taken["references"]): Promise<VirtualMachineBackup["status"]> {
    const condition = await ended(name);
    expect(condition.status, `${JSON.stringify(condition)}\n${condition.status === "True" ? "" : await said()}`).toBe("True");
    const { status } = await admin.get<VirtualMachineBackup>("tvmb", name, "-n", NAMESPACE);
    const [point] = (await world.points(repo)).filter(({ id }) => id === status?.pointId);
    if (point === undefined) throw new Error(`the bucket has no point ${status?.pointId}`);
    taken.push({ backup: { ...point, point: point.id } as unknown as Taken["backup"], references, repo });
    return status;
  }

  async function agents(): Promise<string> {
    return (await admin.kubectl(["get", "pods,secrets", "-n", NAMESPACE, "-l", "thinstream.dev/run", "-o", "name"])).trim();
  }

  async function named(kinds: string): Promise<readonly (Named & { readonly kind: string })[]> {
    const { items } = await admin.get<{ items: readonly (Named & { readonly kind: string })[] }>(kinds, "-A");
    return items
      .map(({ kind, metadata: { name, uid } }) => ({ kind, metadata: { name, uid } }))
      .toSorted((a, b) => a.metadata.uid.localeCompare(b.metadata.uid));
  }
});
