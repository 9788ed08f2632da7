import { randomUUID } from "node:crypto";

import type { BackupPolicy, BackupRepository } from "../../src/api/index.ts";
import { bitmapsAnnotation } from "../../src/controller/backup/newest.ts";
import { mirror, mirrorRef } from "../../src/controller/catalog/mirror.ts";
import { backups, claims, machines, policies, repositories, restorePoints, restoreRequests, volumes } from "../../src/controller/kinds.ts";
import { connectKube, type KubeClient, type Manifest, type ResourceKind } from "../../src/kube/index.ts";
import { mapConcurrently } from "../../src/lib/concurrency.ts";
import type { ControlPlane, Identity } from "../cluster/index.ts";
import { eventually } from "../kube/world.ts";
import { applyCrds, NAMESPACE } from "./operator.ts";

/** How much of everything there is. */
export interface Size {
  readonly machines: number;
  readonly policies: number;
  readonly pointsOfEach: number;
}

const TEAMS = 20;
const DAY = 86_400_000;
const CROWD = 48;
const TIERS = ["gold", "silver", "bronze"] as const;

/** A client that no limit of its own holds back: what it makes is there before anything is measured. */
export async function bulkClient(admin: Identity): Promise<KubeClient> {
  return await connectKube({ kubeconfig: admin.kubeconfig, qps: 10_000, burst: 10_000, concurrency: CROWD });
}

/** Stopped machines of teams in namespaces of their own; policies of teams, tiers and applications over them; daily restore points of each, with their status. */
export async function makeFleet(
  plane: ControlPlane,
  client: KubeClient,
  { machines: count, policies: rules, pointsOfEach }: Size,
): Promise<void> {
  const teams = Array.from({ length: TEAMS }, (_, place) => teamOf(place));
  const named = [NAMESPACE, ...teams].map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels: { team: name } } }));
  // There is no controller manager that would make them.
  const accounts = named.map(({ metadata: { name } }) => ({
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "default", namespace: name },
  }));
  await plane.admin.apply([...named, ...accounts, credentials]);
  const repository = await client.create<BackupRepository>(repositories, { metadata: { name: "main" }, spec: repositorySpec });
  const conditions = [condition("Ready", "Available"), condition("CatalogSynced", "Synced")];
  await client.patch(repositories, repository.metadata, { status: { conditions, observedGeneration: 1 } }, { subresource: "status" });
  await many(count, async (place) => await makeMachine(client, place));
  await many(rules, async (place) => await client.create<BackupPolicy>(policies, policyOf(place)));
  await withoutStatusApart(plane, client, async () => {
    await many(
      count * pointsOfEach,
      async (place) => await client.create(restorePoints, pointOf(place, { machines: count, pointsOfEach })),
    );
  });
}

/** Lets a RestorePoint be made with its status, in one write, as long as `work` goes on. */
async function withoutStatusApart(plane: ControlPlane, client: KubeClient, work: () => Promise<void>): Promise<void> {
  const name = "restorepoints.thinstream.dev";
  const remove = [{ op: "remove", path: "/spec/versions/0/subresources" }];
  const probe = pointOf(0, { machines: 1, pointsOfEach: 1 });
  await plane.admin.kubectl(["patch", "crd", name, "--type=json", "-p", JSON.stringify(remove)]);
  await eventually(async () => {
    const { metadata, status } = await client.create(restorePoints, probe);
    await client.delete(restorePoints, metadata);
    return status !== undefined;
  });
  await work();
  await applyCrds(plane.admin);
  await eventually(async () => {
    const { metadata, status } = await client.create(restorePoints, probe);
    await client.delete(restorePoints, metadata);
    for (const kind of [repositories, policies, backups, restorePoints, restoreRequests] as ResourceKind[])
      await client.list(kind, { limit: 1 }).next();
    return status === undefined;
  });
}

async function many(count: number, make: (place: number) => Promise<unknown>): Promise<void> {
  const places = Array.from({ length: count }, (_, place) => place);
  await mapConcurrently(places, CROWD, make);
}

function teamOf(place: number): string {
  return `team-${String(place % TEAMS).padStart(2, "0")}`;
}

function machineName(place: number): string {
  return `vm-${String(place).padStart(4, "0")}`;
}

async function makeMachine(client: KubeClient, place: number): Promise<void> {
  const [name, namespace, claim] = [machineName(place), teamOf(place), `${machineName(place)}-root`];
  const labels = { tier: TIERS[place % TIERS.length] ?? "", app: `app-${place % 40}`, "kubevirt.io/os": "linux" };
  const disks = [{ name: "root", disk: { bus: "virtio" } }];
  const domain = { cpu: { cores: 4, model: "host-model" }, devices: { disks }, resources: { requests: { memory: "8Gi" } } };
  const template = { metadata: { labels }, spec: { domain, volumes: [{ name: "root", persistentVolumeClaim: { claimName: claim } }] } };
  const annotations = { description: `machine ${place} `.repeat(20) };
  const vm: Manifest & { readonly spec: object } = {
    metadata: { name, namespace, labels, annotations },
    spec: { runStrategy: "Halted", template },
  };
  await client.create(machines, vm);
  const resources = { requests: { storage: "64Gi" } };
  const spec = { accessModes: ["ReadWriteOnce"], storageClassName: "standard", volumeName: `pv-${claim}`, resources };
  const bound: Manifest & { readonly spec: object } = { metadata: { name: claim, namespace }, spec };
  const volume: Manifest & { readonly spec: object } = {
    metadata: { name: spec.volumeName },
    spec: {
      accessModes: spec.accessModes,
      storageClassName: spec.storageClassName,
      capacity: resources.requests,
      csi: { driver: "csi.test", volumeHandle: claim },
    },
  };
  await client.create(volumes, volume);
  const made = await client.create(claims, bound);
  await client.patch(claims, made.metadata, { status: { phase: "Bound", capacity: { storage: "64Gi" } } }, { subresource: "status" });
}

/** A fifth selects whole teams, most a team's tier, the last an application wherever it runs: a machine has two or three, and the first by name backs it up. */
function policyOf(place: number): Manifest {
  const namespaces = { selector: { matchLabels: { team: teamOf(place) } } };
  const tier = { matchExpressions: [{ key: "tier", operator: "In", values: [TIERS[Math.floor(place / TEAMS) - 1] ?? ""] }] };
  const choice =
    place < TEAMS
      ? { namespaces }
      : place < 4 * TEAMS
        ? { namespaces, selector: tier }
        : { selector: { matchLabels: { app: `app-${place % 40}` } } };
  const name = `${place < TEAMS ? "team" : place < 4 * TEAMS ? "tier" : "app"}-${String(place).padStart(3, "0")}`;
  const retention = { keepDaily: 31, keepWeekly: 8, keepMonthly: 12, minimumRestorePoints: 3 };
  return { metadata: { name }, spec: { schedule: "0 0 1 1 *", ...choice, repositoryRef: { name: "main" }, rpo: "26h", retention } };
}

/** As the controller makes it of a point of the catalog, with what a run adds and what is said of it afterwards. */
function pointOf(place: number, { machines: count, pointsOfEach }: Omit<Size, "policies">): Manifest {
  const [machine, age] = [place % count, Math.floor(place / count)];
  const id = `${String(machine).padStart(26, "k")}-${pointsOfEach - age}`;
  const vm = { name: `${teamOf(machine)}/${machineName(machine)}`, uid: randomUUID() };
  const time = new Date(Date.now() - 3_600_000 - age * DAY).toISOString();
  const disks = ["root", "data"].map((name) => ({ name, size: 64 * 2 ** 30 }));
  const point = { id, time, vm, level: "incremental", consistency: "filesystem", disks } as const;
  const made = mirror("main", point, mirrorRef("main", point, { homes: { has: () => true }, home: NAMESPACE }));
  const claimUids = Object.fromEntries(disks.map(({ name }) => [name, randomUUID()]));
  const bitmaps = { claims: claimUids, instanceUid: randomUUID(), kubevirtRestore: null, ourRestore: null };
  const status = { observedGeneration: 1, conditions: [{ ...condition("Ready", "InRepository"), message: "" }] };
  const annotations = { [bitmapsAnnotation]: JSON.stringify(bitmaps) };
  return { ...made, metadata: { ...made.metadata, annotations }, status };
}

function condition(type: string, reason: string): object {
  return {
    type,
    status: "True",
    reason,
    message: "as it was",
    observedGeneration: 1,
    lastTransitionTime: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
  };
}

const credentials = {
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "main-s3", namespace: NAMESPACE },
  stringData: { AWS_ACCESS_KEY_ID: "nobody", AWS_SECRET_ACCESS_KEY: "nothing" },
};

const repositorySpec = {
  s3: { endpoint: "http://127.0.0.1:9", region: "us-east-1", bucket: "backups", credentialsSecretRef: { name: "main-s3" } },
  encryption: { mode: "None" },
};
