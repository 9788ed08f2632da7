import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BackupPolicy } from "../../src/api/index.ts";
import { formatKeyFile } from "../../src/repository/index.ts";
import { Vm } from "../acceptance/vm.ts";
import { skipWithout, tempDir } from "../lab/index.ts";
import { conditionWhen, configuration, NAMESPACE, repositoryObjects } from "./operator.ts";
import { Scene } from "./scene.ts";

const SHOP = "shop";
const API = "thinstream.dev/v1alpha1";

/** What somebody asks for that cannot be, and what they are told. */
interface Row {
  readonly ask: object;
  readonly says: { readonly type: string; readonly status: string; readonly reason: string; readonly message: RegExp };
  /** Default: the reason. */
  readonly event?: string;
}

interface Asked {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

const backup = (name: string, source: object, more: object = {}, namespace: string = SHOP): object => ({
  apiVersion: API,
  kind: "VirtualMachineBackup",
  metadata: { name, namespace },
  spec: { source, repositoryRef: { name: "main" }, ...more },
});
const ofMachine = (name: string, more: object = {}, namespace: string = SHOP): object =>
  backup(`of-${name}`, { virtualMachine: { name } }, more, namespace);
const policy = (name: string, more: object): object => ({
  apiVersion: API,
  kind: "BackupPolicy",
  metadata: { name },
  spec: { repositoryRef: { name: "main" }, rpo: "24h", ...more },
});
const restore = (name: string, source: object, virtualMachine: object = { name: "copy" }): object => ({
  apiVersion: API,
  kind: "RestoreRequest",
  metadata: { name, namespace: SHOP },
  spec: { source, target: { virtualMachine } },
});
const machine = (name: string, part: { readonly device?: object; readonly volume?: object; readonly devices?: object }): object => {
  const disks = [{ name: "root", disk: {} }, ...(part.device === undefined ? [] : [{ name: "x", ...part.device }])];
  const volumes = [
    { name: "root", persistentVolumeClaim: { claimName: `${name}-root` } },
    { name: "x", ...(part.volume ?? { persistentVolumeClaim: { claimName: `${name}-x` } }) },
  ];
  const template = { spec: { domain: { devices: { disks, ...part.devices } }, volumes } };
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name, namespace: SHOP, labels: { app: name } },
    spec: { runStrategy: "Halted", template },
  };
};

const machines = [
  machine("host-disk", { device: { disk: {} }, volume: { hostDisk: { path: "/var/x.img", type: "Disk" } } }),
  machine("shared-disk", { device: { disk: {}, shareable: true } }),
  machine("lun-disk", { device: { lun: {} } }),
  machine("file-system", { devices: { filesystems: [{ name: "x", virtiofs: {} }] } }),
  machine("no-claim", { device: { disk: {} } }),
  machine("twice", { device: { disk: {} } }),
];

const stalls = (reason: string, message: RegExp): Row["says"] => ({ type: "Stalled", status: "True", reason, message });
const failed = (reason: string, message: RegExp): Row["says"] => ({ type: "Succeeded", status: "False", reason, message });
const notReady = (reason: string, message: RegExp): Row["says"] => ({ type: "Ready", status: "False", reason, message });
const leaveOut = "to back up the others, name it under disks.exclude";

const rows: Readonly<Record<string, Row>> = {
  "a backup of an unknown machine": {
    ask: ofMachine("nobody"),
    says: stalls("VirtualMachineNotFound", /there is no VirtualMachine nobody in namespace shop: check the name/),
  },
  "a backup to an unknown repository": {
    ask: backup("to-nowhere", { virtualMachine: { name: "twice" } }, { repositoryRef: { name: "nowhere" } }),
    says: stalls("RepositoryNotFound", /there is no BackupRepository nowhere: make it, or name another/),
  },
  "a backup to a repository whose key is another's": {
    ask: backup("to-wrong-key", { virtualMachine: { name: "twice" } }, { repositoryRef: { name: "wrong-key" } }),
    says: stalls("RepositoryNotReady", /the BackupRepository wrong-key is not ready: .*key/),
  },
  "a backup to a repository that does not allow the namespace": {
    ask: backup("to-fenced", { virtualMachine: { name: "twice" } }, { repositoryRef: { name: "fenced" } }),
    says: stalls("NamespaceNotAllowed", /fenced does not allow namespace shop: ask for the labels that its allowedNamespaces selects/),
  },
  "a machine with a hostDisk": {
    ask: ofMachine("host-disk"),
    says: stalls("DisksNotSupported", new RegExp(`disk x is a file of its node \\(hostDisk\\).*${leaveOut}`)),
  },
  "a machine with a shareable disk": {
    ask: ofMachine("shared-disk"),
    says: stalls("DisksNotSupported", new RegExp(`disk x is shared by several machines \\(shareable\\).*${leaveOut}`)),
  },
  "a machine with a LUN": {
    ask: ofMachine("lun-disk"),
    says: stalls("DisksNotSupported", new RegExp(`disk x is a SCSI device passed through \\(lun\\).*${leaveOut}`)),
  },
  "a machine with virtiofs": {
    ask: ofMachine("file-system"),
    says: stalls("DisksNotSupported", new RegExp(`disk x is a shared file system \\(virtiofs\\).*${leaveOut}`)),
  },
  "a machine of which every disk is left out": {
    ask: backup("of-nothing", { virtualMachine: { name: "twice" } }, { disks: { exclude: ["root", "x"] } }),
    says: stalls("DisksNotSupported", /twice has no disk to back up: all its volumes are made anew at every start, or left out/),
  },
  "a libvirt domain that a tenant names": {
    ask: backup("of-domain", { libvirt: { nodeName: "node-a", domain: "any" } }),
    says: failed("NotPermitted", /can only be backed up from namespace thinstream-system: apply the run there/),
    event: "BackupFailed",
  },
  "a libvirt domain of an unknown node": {
    ask: backup("of-node", { libvirt: { nodeName: "node-z", domain: "any" } }, {}, NAMESPACE),
    says: stalls("NodeNotFound", /there is no node node-z in the cluster: name the node that the domain any is on/),
  },
  "a libvirt domain that is not there": {
    ask: backup(
      "of-no-domain",
      { libvirt: { nodeName: "node-a", uri: "test:///default", domain: "nobody" } },
      { backoffLimit: 0 },
      NAMESPACE,
    ),
    says: failed("BackoffLimitExceeded", /^1 attempt failed, the last with (DomainNotFound|Hypervisor\w+): /),
    event: "BackupFailed",
  },
  "a policy that selects nothing": {
    ask: policy("idle", { selector: { matchLabels: { app: "none" } } }),
    says: {
      type: "Ready",
      status: "True",
      reason: "NothingSelected",
      message: /no VirtualMachine has the labels .*: change namespaces.selector/,
    },
  },
  "a policy with an unknown repository": {
    ask: policy("homeless", { repositoryRef: { name: "nowhere" }, selector: { matchLabels: { app: "twice" } } }),
    says: notReady("RepositoryNotFound", /there is no BackupRepository nowhere: make it, or name another/),
  },
  "a policy that is never due": {
    ask: policy("never", { schedule: "0 0 30 2 *", selector: { matchLabels: { app: "lun-disk" } } }),
    says: notReady("NeverDue", /the schedule has no time to come: change it/),
  },
  "a repository with a key of another": {
    ask: { apiVersion: API, kind: "BackupRepository", metadata: { name: "wrong-key" } },
    says: notReady("WrongKey", /key/),
  },
  "a repository in an unknown bucket": {
    ask: { apiVersion: API, kind: "BackupRepository", metadata: { name: "no-bucket" } },
    says: notReady("BucketNotFound", /bucket/),
  },
  "a repository with credentials that the store does not know": {
    ask: { apiVersion: API, kind: "BackupRepository", metadata: { name: "no-access" } },
    says: notReady("AccessDenied", /credentials|denied|refuse/i),
  },
  "a restore of an unknown point": {
    ask: restore("unknown-point", { restorePointRef: { name: "web-20200101-000000-abcdefgh" } }),
    says: stalls("RestorePointNotFound", /there is no RestorePoint web-20200101-000000-abcdefgh in namespace shop/),
  },
  "a restore from an unknown repository": {
    ask: restore("unknown-repository", { repository: { name: "nowhere", vm: { name: "twice" } } }),
    says: stalls("RepositoryNotFound", /there is no BackupRepository nowhere: make it, or name another/),
  },
  "a restore of a machine that the repository does not have": {
    ask: restore("unknown-machine", { repository: { name: "main", vm: { name: "nobody" } } }),
    says: stalls("RestorePointNotFound", /nobody/),
  },
};

describe.skipIf(skipWithout("cluster", "host", "s3"))("what cannot be done is said, with what to do, and nothing is half-done:", () => {
  let scene: Scene;
  let vm: Vm;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "bad-input", namespaces: { [SHOP]: {} } });
    vm = await Vm.start(scene.world, { vda: { size: "16M" } });
    await scene.plane.admin.apply([
      ...repositories(),
      ...machines,
      ...Object.values(rows).flatMap(({ ask }) => ("spec" in ask ? [ask] : [])),
    ]);
  });
  afterAll(async () => await scene?.stop());

  /** Beside `main`, which is good. */
  function repositories(): readonly object[] {
    const keyFile = join(tempDir("key"), "thinstream.key");
    writeFileSync(keyFile, formatKeyFile(Buffer.alloc(32, 7)), { mode: 0o600 });
    const { repo } = scene;
    const url = new URL(repo.url);
    url.hostname = "no-such-bucket";
    const fenced = repositoryObjects("fenced", repo).map((object) =>
      "spec" in object
        ? { ...object, spec: { ...(object.spec as object), allowedNamespaces: { selector: { matchLabels: { team: "x" } } } } }
        : object,
    );
    return [
      ...repositoryObjects("wrong-key", { ...repo, keyFile }),
      ...repositoryObjects("no-bucket", { ...repo, url: url.href }),
      ...repositoryObjects("no-access", { ...repo, env: { ...repo.env, AWS_SECRET_ACCESS_KEY: "mistyped" } }),
      ...fenced,
    ];
  }

  test.each(Object.entries(rows))("%s", async (_what, { ask, says, event = says.reason }) => {
    const { kind, metadata } = ask as Asked;
    const { type, message, ...expected } = says;
    const condition = await conditionWhen(
      scene.plane.admin,
      { kind: `${kind.toLowerCase()}.thinstream.dev`, ...metadata, type },
      (seen) => seen.status === expected.status && seen.reason === expected.reason && message.test(seen.message),
    );
    expect(condition, scene.operator.log.slice(-3000)).toMatchObject({ ...expected, message: expect.stringMatching(message) });
    await scene.expectEvent(kind, metadata.name, { reason: event, namespace: metadata.namespace ?? "default" });
  });

  test("none of it left a pod, an order, an object of a machine, or a point", async () => {
    await scene.expectNothingLeft();
    expect((await scene.plane.admin.kubectl(["get", "pvc,secret,pod", "-n", SHOP, "-o", "name"])).trim()).toBe("");
    expect(await scene.world.points(scene.repo)).toEqual([]);
  });

  test("two policies on one machine: the first by name backs it up, the other says which does", async () => {
    const both = { selector: { matchLabels: { app: "twice" } }, trigger: { manual: "now" } };
    await scene.plane.admin.apply([policy("a-first", both), policy("b-second", both)]);
    const second = { kind: "bkpol", name: "b-second", type: "Ready" };
    const ready = await conditionWhen(scene.plane.admin, second, ({ message }) => message.includes("another policy"));
    expect(ready.message).toMatch(/1 of the 1 machines that it selects is backed up by another policy: see status.unprotected$/);
    const { status } = await scene.plane.admin.get<BackupPolicy>("bkpol", "b-second");
    expect(status?.unprotected).toEqual([
      {
        namespace: SHOP,
        name: "twice",
        reason: "OtherPolicy",
        message: "the policy a-first backs it up: of several, the first by name does",
      },
    ]);
    await scene.expectEvent("BackupPolicy", "b-second", { reason: "OtherPolicy", namespace: "default" });
    expect(await scene.events("BackupPolicy", "b-second", "default")).not.toContain("RunsMade");
  });

  test("what was wrong and is put right goes on by itself", async () => {
    await scene.plane.admin.kubectl(["label", "namespace", SHOP, "team=x"]);
    // Its claims are not there either, which is the next thing to say.
    const subject = { kind: "tvmb", name: "to-fenced", namespace: SHOP, type: "Succeeded" };
    const next = await conditionWhen(scene.plane.admin, subject, ({ reason }) => reason === "WaitingForVolume");
    expect(next).toMatchObject({
      status: "Unknown",
      message: expect.stringContaining("its PersistentVolumeClaim twice-root is not there"),
    });
  });

  test("a work order that was tampered with is refused before anything is done", async () => {
    await vm.write("vda", "write -P 1 0 1M");
    scene.nodes.image(configuration.image, undefined);
    await scene.plane.admin.apply([scene.domainRun("tampered", vm)]);
    const { metadata } = await scene.agentOf("tampered");
    const get = ["secret", metadata.name, "-n", NAMESPACE] as const;
    const secret = await scene.plane.admin.get<{ metadata: object; data: Record<string, string> }>(...get);
    const order = JSON.parse(atob(secret.data["order.json"] ?? "")) as { work: object };
    const changed = { ...order, work: { ...order.work, vm: { name: "somebody-elses", uid: null } } };
    const { name, namespace, labels } = secret.metadata as Record<string, unknown>;
    // It is immutable: who may change Secrets makes it anew.
    await scene.plane.admin.kubectl(["delete", ...get]);
    await scene.plane.admin.apply([
      { ...secret, metadata: { name, namespace, labels }, data: { ...secret.data, "order.json": btoa(JSON.stringify(changed)) } },
    ]);
    scene.resetImage();
    const subject = { kind: "tvmb", name: "tampered", namespace: NAMESPACE, type: "Succeeded" };
    const refused = await conditionWhen(scene.plane.admin, subject, ({ status }) => status === "False");
    expect(refused, scene.operator.log.slice(-3000)).toMatchObject({ status: "False", reason: "WorkOrderRejected" });
    expect(refused.message).toMatch(/work order/i);
    await scene.expectEvent("VirtualMachineBackup", "tampered", { reason: "BackupFailed" });
    await scene.expectNothingLeft();
    await vm.expectTidy(0);
    expect(await scene.world.points(scene.repo)).toEqual([]);
    const references = await vm.references();
    await scene.expectRestores(await scene.taken("untampered", vm), references);
  });

  test("names as long as they may be are names like others", async () => {
    const long = (stem: string, length: number): string => `${stem}-${"x".repeat(length - stem.length - 1)}`;
    const [repository, run] = [long("repository", 63), long("run", 253)];
    await scene.plane.admin.apply([...repositoryObjects(repository, scene.repo)]);
    await conditionWhen(scene.plane.admin, { kind: "bkrepo", name: repository, type: "Ready" }, ({ status }) => status === "True");
    const references = await vm.references();
    const taken = await scene.taken(run, vm, { repositoryRef: { name: repository } });
    await scene.expectRestores(taken, references);
    await scene.expectEvent("VirtualMachineBackup", run, { reason: "BackupSucceeded" });
    await scene.expectNothingLeft();
    const named = [long("policy", 63), long("machine", 63)] as const;
    const spec = machine(named[1], { device: { disk: {} } });
    await scene.plane.admin.apply([spec, policy(named[0], { selector: { matchLabels: { app: named[1] } }, trigger: { manual: "now" } })]);
    await scene.expectEvent("BackupPolicy", named[0], { reason: "RunsMade", namespace: "default" });
    await expect(scene.plane.admin.apply([policy(long("policy", 64), {})])).rejects.toThrow(/63/);
  });
});
