import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { VirtualMachineBackup } from "../../src/api/index.ts";
import { Vm } from "../acceptance/vm.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { applyKubeVirt, ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { conditionWhen, NAMESPACE, repositoryObjects } from "../operator/operator.ts";
import { chart, image, valuesFile } from "./chart.ts";

const CONTROLLER = `system:serviceaccount:${NAMESPACE}:thinstream`;
const AGENT = `system:serviceaccount:${NAMESPACE}:thinstream-agent`;

/** Who may do what where: `verb resource[/subresource][.group] [namespace]`. */
type Deed = `${string} ${string}`;

interface Spec {
  readonly metadata: { readonly name: string };
  readonly spec: object;
}

describe.skipIf(skipWithout("cluster", "host", "s3"))("what helm installs, without another hand", () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let world: World;
  let repo: Repo;
  let vm: Vm;

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("chart");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a"] });
    await applyKubeVirt(plane.admin);
    for (const name of [NAMESPACE, "shop"]) await plane.admin.kubectl(["create", "namespace", name]);
    const objects = repositoryObjects("main", repo);
    const { spec } = objects.at(-1) as Spec;
    await plane.admin.apply(objects.slice(0, -1));
    const values = {
      ...image,
      repositories: { main: spec },
      policies: { nightly: { schedule: "15 2 * * *", repositoryRef: { name: "main" }, rpo: "24h" } },
    };
    await plane.admin.helm(["install", "thinstream", chart, "-n", NAMESPACE, "-f", valuesFile(values)]);
    vm = await Vm.start(world, { vda: { size: "64M" } });
  });
  afterAll(async () => {
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  test("runs a controller that finds the repository ready and keeps the policy", async () => {
    const ready = await conditionWhen(plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
    expect(ready, await plane.admin.kubectl(["get", "pods", "-n", NAMESPACE, "-o", "yaml"])).toMatchObject({ reason: "Available" });
    const policy = await conditionWhen(
      plane.admin,
      { kind: "bkpol", name: "nightly", type: "Ready" },
      ({ reason }) => reason !== "NotReadYet" && reason !== "",
    );
    expect(policy.reason).toBe("NothingSelected");
  });

  test("backs up a libvirt domain of a node", async () => {
    await vm.write("vda", "write -P 1 0 1M");
    const run = {
      apiVersion: "thinstream.dev/v1alpha1",
      kind: "VirtualMachineBackup",
      metadata: { name: "first", namespace: NAMESPACE },
      spec: {
        source: { libvirt: { nodeName: "node-a", uri: vm.world.lab.uri, domain: vm.name } },
        repositoryRef: { name: "main" },
        scratch: { directory: vm.world.lab.dir },
      },
    };
    await plane.admin.apply([run]);
    const at = { kind: "tvmb", name: "first", namespace: NAMESPACE, type: "Succeeded" };
    const done = await conditionWhen(plane.admin, at, ({ status }) => status === "True" || status === "False");
    expect(done.message, JSON.stringify(done)).not.toBe("");
    expect(done.status).toBe("True");
    const { status } = await plane.admin.get<VirtualMachineBackup>("tvmb", "first", "-n", NAMESPACE);
    expect((await world.points(repo)).map(({ id }) => id)).toEqual([status?.pointId]);
  });

  test("makes the run of a machine that the policy selects, and reads all that KubeVirt and the cluster say of it", async () => {
    const claim = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: "root", namespace: "shop" },
      spec: { accessModes: ["ReadWriteOnce"], volumeMode: "Filesystem", resources: { requests: { storage: "16Mi" } } },
    };
    const machine = {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachine",
      metadata: { name: "web1", namespace: "shop" },
      spec: {
        runStrategy: "Halted",
        template: {
          spec: {
            domain: { devices: { disks: [{ name: "rootdisk", disk: { bus: "virtio" } }] } },
            volumes: [{ name: "rootdisk", persistentVolumeClaim: { claimName: "root" } }],
          },
        },
      },
    };
    await plane.admin.apply([claim, machine]);
    await plane.admin.kubectl([
      "patch",
      "bkpol",
      "nightly",
      "--type=merge",
      "-p",
      JSON.stringify({ spec: { trigger: { manual: "now" } } }),
    ]);
    const runs = async (): Promise<readonly VirtualMachineBackup[]> =>
      (await plane.admin.get<{ items: VirtualMachineBackup[] }>("tvmb", "-n", "shop")).items;
    await expect.poll(async () => (await runs()).length, { timeout: 60_000 }).toBe(1);
    // The last of what is asked for before it is decided: whether an unbound volume can be backed up is not this test's.
    const asked = (): boolean =>
      plane
        .requests()
        .some(
          ({ user, verb, resource, code }) => user === CONTROLLER && `${verb} ${resource} ${code}` === "list persistentvolumeclaims 200",
        );
    await expect.poll(asked, { timeout: 60_000 }).toBe(true);
  });

  test("was refused nothing by the API server", () => {
    const asked = plane.requests().filter(({ user }) => user === CONTROLLER);
    expect(asked.length).toBeGreaterThan(50);
    expect(asked.filter(({ code }) => code === 403 || code === 401)).toEqual([]);
  });

  async function may(user: string, deed: Deed, groups: readonly string[] = []): Promise<boolean> {
    const [verb = "", what = "", namespace = ""] = deed.split(" ");
    const [path = "", ...group] = what.split(".");
    const [resource = "", subresource = ""] = path.split("/");
    const review = {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SubjectAccessReview",
      spec: { user, groups, resourceAttributes: { verb, group: group.join("."), resource, subresource, namespace } },
    };
    const answer = await plane.admin.kubectl(["create", "-f", "-", "-o", "json"], { input: JSON.stringify(review) });
    return (JSON.parse(answer) as { status: { allowed: boolean } }).status.allowed;
  }

  test.each<Deed>([
    "list secrets thinstream-system",
    "watch secrets thinstream-system",
    "update secrets thinstream-system",
    "patch secrets shop",
    "delete secrets shop",
    "list secrets",
    "list configmaps shop",
    "delete configmaps shop",
    "create pods/exec shop",
    "create pods/exec thinstream-system",
    "create pods/attach shop",
    "update pods shop",
    "get pods/log shop",
    "create pods/eviction shop",
    "create deployments.apps thinstream-system",
    "create serviceaccounts/token thinstream-system",
    "impersonate serviceaccounts thinstream-system",
    "create clusterrolebindings.rbac.authorization.k8s.io",
    "escalate clusterroles.rbac.authorization.k8s.io",
    "bind clusterroles.rbac.authorization.k8s.io",
    "update customresourcedefinitions.apiextensions.k8s.io",
    "list nodes",
    "update nodes",
    "get nodes/proxy",
    "delete persistentvolumeclaims shop",
    "delete persistentvolumes",
    "delete namespaces",
    "update virtualmachines.kubevirt.io shop",
    "delete virtualmachines.kubevirt.io shop",
    "patch virtualmachineinstances.kubevirt.io shop",
    "update virtualmachineinstances/status.kubevirt.io shop",
    "update virtualmachines/stop.subresources.kubevirt.io shop",
    "get virtualmachineinstances/console.subresources.kubevirt.io shop",
    "create virtualmachinebackups.backup.kubevirt.io shop",
    "update backuprepositories.thinstream.dev",
    "delete backuprepositories.thinstream.dev",
    "patch backuppolicies.thinstream.dev",
    "patch virtualmachinebackups.thinstream.dev shop",
    "create restorerequests.thinstream.dev shop",
    "delete restorerequests.thinstream.dev shop",
    "create leases.coordination.k8s.io kube-system",
    "delete events.events.k8s.io shop",
  ])("its controller may not %s", async (deed) => {
    expect(await may(CONTROLLER, deed, ["system:serviceaccounts", "system:authenticated"])).toBe(false);
  });

  test("its agents' account may nothing at all", async () => {
    const deeds: Deed[] = [
      "get secrets thinstream-system",
      "get pods thinstream-system",
      "list virtualmachinebackups.thinstream.dev shop",
      "get configmaps thinstream-system",
    ];
    const allowed = await Promise.all(
      deeds.map(async (deed) => await may(AGENT, deed, ["system:serviceaccounts", "system:authenticated"])),
    );
    expect(allowed).toEqual([false, false, false, false]);
  });

  test("owners of VMs back up and restore in their namespace, read restore points, and make none", async () => {
    await plane.admin.kubectl(["create", "rolebinding", "owner", "--clusterrole=edit", "--user=jane", "-n", "shop"]);
    await plane.admin.kubectl(["create", "rolebinding", "guest", "--clusterrole=view", "--user=joe", "-n", "shop"]);
    const kinds = ["virtualmachinebackups", "restorerequests", "restorepoints"] as const;
    const table = async (user: string): Promise<Record<string, string[]>> =>
      Object.fromEntries(
        await Promise.all(
          kinds.map(async (kind) => {
            const verbs = ["get", "list", "create", "patch", "delete"];
            const allowed = await Promise.all(verbs.map(async (verb) => await may(user, `${verb} ${kind}.thinstream.dev shop`)));
            return [kind, verbs.filter((_, index) => allowed[index])] as const;
          }),
        ),
      );
    const [all, read] = [
      ["get", "list", "create", "patch", "delete"],
      ["get", "list"],
    ];
    // The controller manager puts the roles together in its own time.
    await expect
      .poll(async () => await table("jane"), { timeout: 30_000 })
      .toEqual({ virtualmachinebackups: all, restorerequests: all, restorepoints: read });
    await expect
      .poll(async () => await table("joe"), { timeout: 30_000 })
      .toEqual({ virtualmachinebackups: read, restorerequests: read, restorepoints: read });
    const beyond: Deed[] = [
      "create virtualmachinebackups.thinstream.dev thinstream-system",
      "get backuprepositories.thinstream.dev",
      "patch virtualmachinebackups/status.thinstream.dev shop",
      "patch restorerequests/status.thinstream.dev shop",
    ];
    expect(await Promise.all(beyond.map(async (deed) => await may("jane", deed)))).toEqual([false, false, false, false]);
  });
});
