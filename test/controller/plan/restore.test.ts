import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { KubeObject } from "../../../src/controller/plan/kubevirt/bundle.ts";
import type { Claim, VirtualMachine } from "../../../src/controller/plan/kubevirt/objects.ts";
import type {
  PointFacts,
  RestoreDecision,
  RestorePlan,
  RestoreWish,
  TargetFacts,
} from "../../../src/controller/plan/kubevirt/restore-request.ts";
import { planRestore } from "../../../src/controller/plan/kubevirt/restore.ts";
import { emptyTarget, richPoint, wish } from "./rich-machine.ts";

function restore(more: Partial<RestoreWish> = {}, target: Partial<TargetFacts> = {}, point: PointFacts = richPoint): RestoreDecision {
  return planRestore({ ...wish, ...more }, point, { ...emptyTarget, ...target });
}

function planned(...given: Parameters<typeof restore>): RestorePlan {
  const decision = restore(...given);
  if (decision.kind !== "restore") throw new Error(JSON.stringify(decision));
  return decision;
}

function said(decision: RestoreDecision): string {
  if (decision.kind === "restore" || decision.kind === "restored") return decision.kind;
  return `${decision.kind} ${"reason" in decision ? decision.reason : ""}: ${decision.message}`;
}

function find(plan: RestorePlan, kind: string, name?: string): KubeObject {
  const step = plan.steps.find(({ object }) => object.kind === kind && (name === undefined || object.metadata.name === name));
  if (step === undefined) throw new Error(`no ${kind} ${name ?? ""}`);
  return step.object;
}

const copy = { name: "web-copy" };

describe("golden", () => {
  test.each([
    ["restore-same", {}, {}],
    ["restore-copy", { ...copy, namespace: "lab", runStrategy: "Halted" as const }, { sourceExists: true }],
    ["restore-without-cdi", { storageClassMapping: { slow: "fast" } }, { hasCdi: false }],
  ])("%s", async (name, more, target) => {
    const text = `${JSON.stringify(planned(more, target), null, 2)}\n`;
    await expect(text).toMatchFileSnapshot(join(import.meta.dirname, `../../golden/controller/${name}.json`));
  });
});

describe("a new machine", () => {
  test("comes after everything that it needs, and stopped", () => {
    expect(planned().steps.map(({ stage, object }) => `${stage} ${object.kind} ${object.metadata.name}`)).toEqual([
      "config ConfigMap settings",
      "config Secret user-data",
      "config ServiceAccount robot",
      "claim PersistentVolumeClaim web-root",
      "claim PersistentVolumeClaim web-data",
      "claim PersistentVolumeClaim web-extra",
      "claim PersistentVolumeClaim persistent-state-for-web-0b9c2",
      "revision ControllerRevision web-u1.small-v1-1",
      "machine VirtualMachine web",
    ]);
    const plan = planned();
    expect(find(plan, "VirtualMachine")["spec"]).toMatchObject({ runStrategy: "Halted" });
    expect(find(plan, "VirtualMachine")["spec"]).not.toHaveProperty("running");
    expect(plan.after).toEqual({ annotations: { "thinstream.dev/restored": wish.uid }, runStrategy: "Always" });
    expect(plan.warnings).toEqual([
      "disk extra was plugged into the running machine; it is a permanent disk of the restored one",
      "the machine's TPM and EFI state begins anew: a restore point has its disks alone",
      "the Secret shop/ssh is not in the restore point, so it is not restored: make it before the machine starts",
    ]);
  });

  test("loses no state where its claim of that name has change lists alone", () => {
    const whole = JSON.stringify(richPoint.bundle.objects);
    expect(whole).toContain('"tpm":{"persistent":true}');
    const withoutTpm = JSON.parse(whole.replace('"tpm":{"persistent":true}', '"tpm":{}')) as readonly KubeObject[];
    const about = (objects: readonly KubeObject[]): boolean =>
      planned({}, {}, { ...richPoint, bundle: { ...richPoint.bundle, objects } }).warnings.some((text) => text.includes("TPM"));
    expect(about(withoutTpm)).toBe(false);
    // Of one that did not run nobody knows what its preference asked for.
    expect(about(withoutTpm.filter(({ kind }) => kind !== "VirtualMachineInstance"))).toBe(true);
  });

  test("has nothing of the former object but what is said of it", () => {
    const { metadata, status } = find(planned(), "VirtualMachine");
    expect(status).toBeUndefined();
    expect(metadata).toEqual({
      name: "web",
      namespace: "shop",
      labels: { app: "web", "app.kubernetes.io/instance": "argo-app" },
      annotations: {
        owner: "team-a",
        "argocd.argoproj.io/tracking-id": "web:kubevirt.io/VirtualMachine:shop/web",
        "thinstream.dev/restore": wish.uid,
      },
    });
    // A GitOps tool would remove a copy that bears its marks.
    expect(find(planned(copy), "VirtualMachine").metadata).toMatchObject({ labels: { app: "web" }, annotations: { owner: "team-a" } });
    expect(JSON.stringify(find(planned(copy), "VirtualMachine"))).not.toMatch(/argo|nodeName|lastRestoreUID/);
  });

  test("has claims that CDI leaves alone, large enough for the disk and the file system around it", () => {
    const plan = planned();
    const root = find(plan, "PersistentVolumeClaim", "web-root");
    expect(root.metadata).toMatchObject({ labels: { team: "a" }, annotations: { "cdi.kubevirt.io/storage.populatedFor": "web-root" } });
    expect(root.metadata.labels).not.toHaveProperty("app");
    expect(find(plan, "PersistentVolumeClaim", "web-extra").metadata.labels).toEqual({ app: "web" });
    // 10 GiB by 1 - 0.055, in full MiB.
    expect(root["spec"]).toEqual({
      accessModes: ["ReadWriteOnce"],
      volumeMode: "Filesystem",
      storageClassName: "fast",
      resources: { requests: { storage: "10836Mi" } },
    });
    expect(find(plan, "PersistentVolumeClaim", "web-data")["spec"]).toMatchObject({
      volumeMode: "Block",
      storageClassName: "slow",
      resources: { requests: { storage: "20Gi" } },
    });
    expect(find(plan, "VirtualMachine")["spec"]).toMatchObject({
      dataVolumeTemplates: [
        { metadata: { name: "web-root", annotations: { "cdi.kubevirt.io/storage.prePopulated": "web-root" } }, spec: { storage: {} } },
      ],
    });
    expect(find(plan, "PersistentVolumeClaim", "persistent-state-for-web-0b9c2").metadata.labels).toEqual({
      "persistent-state-for": "web",
    });
  });

  test("under another name has claims, revisions and state of its own", () => {
    const plan = planned({ name: "w".repeat(63) });
    for (const { object } of plan.steps) expect(object.metadata.name?.length).toBeLessThanOrEqual(63);
    const named = planned(copy);
    expect(named.disks.map(({ claim }) => claim)).toEqual(["web-copy-root", "web-copy-data", "web-copy-extra"]);
    expect(named.revisions).toEqual(["web-copy-web-u1.small-v1-1"]);
    expect(find(named, "VirtualMachine")["spec"]).toMatchObject({
      instancetype: { name: "u1.small", revisionName: "web-copy-web-u1.small-v1-1" },
      preference: { kind: "virtualmachinepreference", name: "fedora" },
      template: {
        spec: {
          volumes: [
            { dataVolume: { name: "web-copy-root" } },
            { persistentVolumeClaim: { claimName: "web-copy-data" } },
            {},
            {},
            {},
            {},
            {},
            {},
          ],
        },
      },
    });
  });

  test("takes another identity beside its original, unless the request says otherwise", () => {
    const identity = (...given: Parameters<typeof restore>): unknown => {
      const { domain } = (find(planned(...given), "VirtualMachine") as VirtualMachine).spec?.template?.spec ?? {};
      return [domain?.devices?.interfaces?.map(({ macAddress }) => macAddress ?? "-").join(" "), domain?.firmware?.serial ?? "-"];
    };
    const own = ["52:54:00:aa:bb:cc 02:00:00:00:00:07", "S1"];
    expect(identity()).toEqual(own);
    expect(identity(copy, { sourceExists: true })).toEqual(["- -", "-"]);
    expect(identity({ ...copy, identity: { macAddresses: "Preserve" } }, { sourceExists: true })).toEqual([own[0], "-"]);
    expect(identity({ identity: { firmwareUUID: "Regenerate" } })).toEqual([own[0], "-"]);
  });

  test("goes without the disks that are skipped", () => {
    const plan = planned({ disks: { data: { skip: true }, root: { storageClassName: "slow", volumeMode: "Block" } } });
    expect(plan.disks.map(({ disk, mode }) => `${disk} ${mode}`)).toEqual(["root Block", "extra Filesystem"]);
    expect(find(plan, "PersistentVolumeClaim", "web-root")["spec"]).toMatchObject({
      storageClassName: "slow",
      resources: { requests: { storage: "10Gi" } },
    });
    const { volumes = [], domain } = (find(plan, "VirtualMachine") as VirtualMachine).spec?.template?.spec ?? {};
    expect(volumes.map(({ name }) => name)).toEqual(["root", "init", "sys", "os", "cm", "sa", "extra"]);
    expect(domain?.devices?.disks?.map(({ name }) => name)).toEqual(["root", "init", "sys", "os", "cm", "extra"]);
  });

  test("is planned the same again when half of it is there", () => {
    const first = planned();
    const made = (kind: string): KubeObject[] => first.steps.filter(({ object }) => object.kind === kind).map(({ object }) => object);
    fc.assert(
      fc.property(fc.subarray(made("PersistentVolumeClaim")), fc.boolean(), (claims, hasMachine) => {
        const vm = hasMachine ? (made("VirtualMachine")[0] as VirtualMachine) : null;
        expect(restore({}, { claims, vm })).toEqual(first);
      }),
    );
  });

  test("that was restored by this request is left alone from then on", () => {
    const vm = { metadata: { name: "web", annotations: planned().after.annotations } };
    expect(restore({}, { vm })).toEqual({ kind: "restored" });
  });
});

describe("refused, with what to do", () => {
  const foreign: Claim = { metadata: { name: "web-data" } };

  test.each<[string, Partial<RestoreWish>, Partial<TargetFacts>, string]>([
    [
      "a disk that is not there",
      { disks: { swap: {} } },
      {},
      "refuse DiskNotFound: the restore point of web has no disk swap: it has root, data, extra",
    ],
    [
      "no disk at all",
      { disks: { root: { skip: true }, data: { skip: true }, extra: { skip: true } } },
      {},
      "refuse DiskNotFound: every disk of the restore point is to be skipped: leave at least one",
    ],
    [
      "a claim that is there",
      {},
      { claims: [foreign] },
      "refuse TargetExists: there is a PersistentVolumeClaim web-data in shop already: remove it, or restore under another name",
    ],
    [
      "a class that is named and not there",
      { storageClassMapping: { slow: "gold" } },
      {},
      "refuse StorageClassNotFound: disk data is to have the StorageClass gold, which the cluster does not have: name another",
    ],
    [
      "a class that is gone, without a default",
      {},
      { storageClasses: [] },
      "refuse StorageClassNotFound: disk root had the StorageClass fast, which the cluster does not have, and there is no default one: name one in storageClassMapping or disks",
    ],
    [
      "a machine that is there",
      {},
      { vm: { metadata: { name: "web" } } },
      "refuse TargetExists: the VirtualMachine shop/web is there already: restore under another name, or set existing to Replace to overwrite its disks",
    ],
  ])("%s", (...[, more, target, message]) => {
    expect(said(restore(more, target))).toBe(message);
  });

  test("a point of a libvirt domain", () => {
    expect(said(restore({}, {}, { ...richPoint, bundle: { ...richPoint.bundle, objects: [] } }))).toMatch(
      /^refuse VirtualMachineNotInPoint/,
    );
  });

  test("a class that is gone falls back to the cluster's default", () => {
    expect(
      find(planned({}, { storageClasses: [{ name: "new", isDefault: true }] }), "PersistentVolumeClaim", "web-data")["spec"],
    ).toMatchObject({ storageClassName: "new" });
  });
});

describe("in place", () => {
  const volumes = ["root", "data", "extra"].map((name) => ({ name, persistentVolumeClaim: { claimName: `own-${name}` } }));
  const vm: VirtualMachine = { metadata: { name: "web" }, spec: { runStrategy: "Halted", template: { spec: { volumes } } } };
  const claims: Claim[] = volumes.map(({ persistentVolumeClaim: { claimName } }) => ({
    metadata: { name: claimName },
    spec: { volumeMode: claimName === "own-data" ? "Block" : "Filesystem" },
    status: { capacity: { storage: "20Gi" } },
  }));
  const target = { vm, claims };
  const replace = { existing: "Replace" as const };
  const pod = (labels: Record<string, string>, phase: string = "Running"): TargetFacts["pods"][number] => ({
    metadata: { name: "user", labels },
    spec: { volumes: [{ name: "v", persistentVolumeClaim: { claimName: "own-data" } }] },
    status: { phase },
  });

  test("the disks of a stopped machine are overwritten, and nothing else", () => {
    expect(planned({ ...replace, disks: { extra: { skip: true } } }, target)).toEqual({
      kind: "restore",
      steps: [],
      before: { annotations: { "thinstream.dev/last-restore": wish.uid }, runStrategy: "Halted" },
      disks: [
        { disk: "root", claim: "own-root", mode: "Filesystem", sizeBytes: 10 * 2 ** 30 },
        { disk: "data", claim: "own-data", mode: "Block", sizeBytes: 20 * 2 ** 30 },
      ],
      stateClaim: null,
      revisions: [],
      after: { annotations: { "thinstream.dev/restored": wish.uid }, runStrategy: "Always" },
      warnings: [],
    });
  });

  test("a machine that is there can be left alone", () => {
    expect(said(restore({ existing: "Skip" }, target))).toBe("skip : the VirtualMachine shop/web is there already");
  });

  test("a disk in use is never overwritten", () => {
    const runs = "refuse TargetRunning: the VirtualMachine shop/web runs, or is to run: stop it, and the restore begins";
    expect(said(restore(replace, { ...target, vmi: { metadata: {}, status: { phase: "Running" } } }))).toBe(runs);
    expect(said(restore(replace, { ...target, vm: { ...vm, spec: { ...vm.spec, runStrategy: "Always" } } }))).toBe(runs);
    expect(said(restore(replace, { ...target, vmi: { metadata: {}, status: { phase: "Succeeded" } } }))).toBe("restore");
    expect(said(restore(replace, { ...target, pods: [pod({})] }))).toBe(
      "wait VolumeInUse: the pod user has the volume own-data; the restore follows when it has ended",
    );
    expect(said(restore(replace, { ...target, pods: [pod({}, "Succeeded"), pod({ "thinstream.dev/run": wish.uid })] }))).toBe("restore");
  });

  test("a disk without a volume, or with one that is too small, is refused", () => {
    expect(said(restore(replace, { ...target, claims: claims.slice(1) }))).toBe(
      "refuse DiskNotFound: web has no volume for disk root of the restore point: add one, or skip the disk",
    );
    const small = claims.map((one) => ({ ...one, status: { capacity: { storage: "10Gi" } } }));
    expect(said(restore(replace, { ...target, claims: small }))).toBe(
      "refuse TargetTooSmall: the volume own-data has 10737418240 bytes, and disk data needs 21474836480: enlarge it",
    );
  });
});
