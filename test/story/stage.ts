import { type Repo, World } from "../acceptance/world.ts";
import { ControlPlane, type Identity } from "../cluster/index.ts";
import { KubeVirt, type Machine } from "../kubevirt/index.ts";
import { NodeSimulator, type Pod } from "../node/index.ts";
import { NAMESPACE, repositoryObjects } from "../operator/operator.ts";

/** The namespace of the story's machines. */
export const SHOP = "shop";

/** A cluster of two nodes with KubeVirt, and a bucket. Nothing of ours is in it but the Secrets that the chart leaves to its user. */
export class Stage {
  readonly world: World;
  readonly repo: Repo;
  readonly plane: ControlPlane;
  readonly nodes: NodeSimulator;
  readonly kubevirt: KubeVirt;
  /** Owner of the machines of `shop`: of the cluster's role `edit` there, and of what KubeVirt gives such a user. */
  readonly owner: Identity;
  /** What a BackupRepository has to say of the bucket. */
  readonly repository: object;

  private constructor(parts: Pick<Stage, "world" | "repo" | "plane" | "nodes" | "kubevirt" | "owner" | "repository">) {
    this.world = parts.world;
    this.repo = parts.repo;
    this.plane = parts.plane;
    this.nodes = parts.nodes;
    this.kubevirt = parts.kubevirt;
    this.owner = parts.owner;
    this.repository = parts.repository;
  }

  /** @throws LabError */
  static async start(): Promise<Stage> {
    const stops: (() => Promise<void>)[] = [];
    try {
      const world = await World.start("host");
      stops.push(async () => await world.stop());
      const repo = await world.s3Repo("cluster-1");
      const plane = await ControlPlane.start({ controllers: true, scheduler: true });
      stops.push(async () => await plane.stop());
      const nodes = await NodeSimulator.start(plane, { nodes: ["node-a", "node-b"] });
      stops.push(async () => await nodes.stop());
      const kubevirt = await KubeVirt.start(plane, nodes);
      stops.push(async () => await kubevirt.stop());
      for (const name of [NAMESPACE, SHOP]) await plane.admin.kubectl(["create", "namespace", name]);
      const objects = repositoryObjects("backup", repo);
      await plane.admin.apply([...objects.slice(0, -1), ...ownerObjects]);
      const { spec } = objects.at(-1) as { readonly spec: object };
      const owner = await plane.serviceAccount(SHOP, "owner");
      return new Stage({ world, repo, plane, nodes, kubevirt, owner, repository: spec });
    } catch (cause) {
      for (const stop of stops.toReversed()) await stop();
      throw cause;
    }
  }

  get admin(): Identity {
    return this.plane.admin;
  }

  /** A machine of `shop` that runs. @throws LabError */
  async machine(name: string): Promise<Machine> {
    return await this.kubevirt.machine(name, SHOP);
  }

  /** The end of what the controller wrote, for who wants to know why something failed. */
  async controllerLog(): Promise<string> {
    const { items } = await this.admin.get<{ items: readonly Pod[] }>("pods", "-n", NAMESPACE);
    const controllers = items.filter(({ metadata }) => metadata.name.startsWith("thinstream-"));
    return controllers.map((pod) => this.nodes.log(pod).slice(-4000)).join("\n");
  }

  async stop(): Promise<void> {
    await this.kubevirt.stop();
    await this.nodes.stop();
    await this.plane.stop();
    await this.world.stop();
  }
}

const subject = { kind: "ServiceAccount", name: "owner", namespace: SHOP };
const rbac = "rbac.authorization.k8s.io";

const ownerObjects: readonly object[] = [
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "owner", namespace: SHOP } },
  {
    apiVersion: `${rbac}/v1`,
    kind: "RoleBinding",
    metadata: { name: "owner-edit", namespace: SHOP },
    roleRef: { apiGroup: rbac, kind: "ClusterRole", name: "edit" },
    subjects: [subject],
  },
  // KubeVirt itself adds this to `edit`; the stand-in has no roles.
  {
    apiVersion: `${rbac}/v1`,
    kind: "Role",
    metadata: { name: "kubevirt", namespace: SHOP },
    rules: [{ apiGroups: ["kubevirt.io"], resources: ["*"], verbs: ["*"] }],
  },
  {
    apiVersion: `${rbac}/v1`,
    kind: "RoleBinding",
    metadata: { name: "owner-kubevirt", namespace: SHOP },
    roleRef: { apiGroup: rbac, kind: "Role", name: "kubevirt" },
    subjects: [subject],
  },
];
