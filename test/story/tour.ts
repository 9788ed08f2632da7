import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { annotations, type RestoreRequest, type VirtualMachineBackup } from "../../src/api/index.ts";
import { conditionOf } from "../../src/controller/said.ts";
import { type Machine, vmObjects } from "../kubevirt/index.ts";
import { conditionWhen, NAMESPACE } from "../operator/operator.ts";
import { SHOP, type Stage } from "./stage.ts";
import type { Teller } from "./teller.ts";

const RUN_MS = 180_000;

/** What the chart is given: one repository, and a policy for whatever carries its label. */
export function values(stage: Stage): { readonly policies: { readonly gold: object }; readonly [name: string]: object } {
  const gold = {
    schedule: "* * * * *",
    selector: { matchLabels: { backup: "gold" } },
    repositoryRef: { name: "main" },
    retention: { keepLast: 10, keepDaily: 7 },
    rpo: "1h",
  };
  return {
    image: { repository: "registry.example/thinstream" },
    repositories: { main: stage.repository },
    policies: { gold },
  };
}

/** The parts of the story that the demo tells, the documentation shows and the test goes on from. */
export class Tour {
  readonly stage: Stage;
  readonly teller: Teller;

  constructor(stage: Stage, teller: Teller) {
    this.stage = stage;
    this.teller = teller;
  }

  async install(): Promise<void> {
    const { stage, teller } = this;
    teller.step("The cluster admin installs the chart, with a repository and a policy");
    teller.file("values.yaml", values(stage));
    await teller.run(`helm install thinstream charts/thinstream -n ${NAMESPACE} -f values.yaml`, stage.admin);
    await this.becomes({ kind: "bkrepo", name: "main", type: "Ready" }, "True");
    await this.becomes({ kind: "bkpol", name: "gold", type: "Ready" }, "True");
    teller.say("The bucket answers, the key is the right one, and the policy has nothing to do yet:\n");
    await teller.run("kubectl get bkrepo", stage.admin);
    await teller.run("kubectl get bkpol -o wide", stage.admin);
  }

  /** A guest with a file system on its first disk; its second is a device without one. */
  async boot(): Promise<Machine> {
    const { stage, teller } = this;
    teller.step("A virtual machine boots, and its guest writes");
    const volumes = [
      { name: "root", size: "256Mi" },
      { name: "data", mode: "Block" as const },
    ];
    await stage.owner.apply(vmObjects({ name: "web", namespace: SHOP, guest: true, tracksBlocks: true, volumes }));
    const machine = await stage.machine("web");
    await machine.launcher.guest.sh(
      "dd if=/dev/urandom of=/data/photos bs=1M count=40 2>/dev/null; echo 'first order' > /data/orders; sync",
    );
    await machine.write("data", "write -P 1 0 8M");
    await teller.run(`kubectl get vm,vmi,pvc -n ${SHOP}`, stage.owner);
    return machine;
  }

  /** Its first run is a full one. */
  async protect(): Promise<VirtualMachineBackup> {
    const { stage, teller } = this;
    teller.step("Its owner protects it by a label; the first scheduled run reads everything");
    // It is due at once; were the minute nearly over, there would soon be a second run beside it.
    while (new Date().getSeconds() > 25) await sleep(1000);
    await teller.run(`kubectl label vm web -n ${SHOP} backup=gold`, stage.owner);
    const run = await this.nextRun("web", (one) => one.metadata.annotations?.[annotations.scheduledAt] !== undefined);
    assert.deepEqual([run.status?.level, run.status?.consistency, run.spec.policyRef?.name], ["Full", "Filesystem", "gold"]);
    await this.becomes({ kind: "bkpol", name: "gold", type: "Protected" }, "True");
    await teller.run(`kubectl get tvmb -n ${SHOP}`, stage.owner);
    await teller.run(`kubectl get rp -n ${SHOP}`, stage.owner);
    await teller.run("kubectl get bkpol", stage.admin);
    return run;
  }

  /** The guest writes, and the next scheduled run reads what it wrote, no more. */
  async again(machine: Machine): Promise<VirtualMachineBackup> {
    const { stage, teller } = this;
    teller.step("The guest writes; the next scheduled run reads what changed");
    await machine.launcher.guest.sh(
      "echo 'second order' >> /data/orders; dd if=/dev/urandom of=/data/scan bs=1M count=2 2>/dev/null; sync",
    );
    await machine.write("data", "write -P 2 8M 128k");
    const since = Date.now();
    const run = await this.nextRun("web", ({ metadata }) => Date.parse(metadata.annotations?.[annotations.scheduledAt] ?? "") > since);
    const dirty = new Map(run.status?.disks?.map(({ name, dirtyBytes }) => [name, dirtyBytes]));
    assert.equal(run.status?.level, "Incremental", JSON.stringify(run.status));
    assert.equal(dirty.get("data"), 128 * 1024, "of the second disk exactly the two granules that were written are dirty");
    assert.ok((dirty.get("root") ?? 0) < 16 * 2 ** 20, "of the first disk much less than all is dirty");
    await teller.run(`kubectl get tvmb -n ${SHOP} -o wide`, stage.owner);
    await teller.run(`kubectl get rp -n ${SHOP}`, stage.owner);
    return run;
  }

  /** The newest point of `web` as a machine of another name, which boots. */
  async restoreCopy(): Promise<Machine> {
    const { stage, teller } = this;
    teller.step("A RestoreRequest makes another machine of the newest restore point, and it boots");
    teller.file("web-copy.yaml", {
      apiVersion: "thinstream.dev/v1alpha1",
      kind: "RestoreRequest",
      metadata: { name: "web-copy", namespace: SHOP },
      spec: {
        source: { repository: { name: "main", vm: { name: "web" } } },
        target: { virtualMachine: { name: "web-copy" } },
      },
    });
    await teller.run("kubectl apply -f web-copy.yaml", stage.owner);
    await this.restored("web-copy");
    await teller.run(`kubectl get rr -n ${SHOP}`, stage.owner);
    const copy = await stage.machine("web-copy");
    await teller.run(`kubectl get vm,vmi,pvc -n ${SHOP}`, stage.owner);
    return copy;
  }

  /** The restored guest has what the first one has. */
  async compareGuests(machine: Machine, copy: Machine): Promise<void> {
    const { teller } = this;
    const look = "cd /data && cat orders && sha256sum photos scan";
    const [was, is] = [await machine.launcher.guest.sh(look), await copy.launcher.guest.sh(look)];
    teller.say(`In the guest of web-copy:\n\n# ${look}\n${is}\n`);
    assert.equal(is, was, "the restored guest has other files than the one that was backed up");
    assert.match(is, /^first order\nsecond order\n/);
    teller.say("The same in the guest of web: nothing is missing and nothing is different.");
  }

  /** Waits until a restore is done. @throws AssertionError when it failed */
  async restored(name: string): Promise<RestoreRequest> {
    const request = { kind: "rr", name, namespace: SHOP, type: "Succeeded" };
    const end = await conditionWhen(this.stage.admin, request, ({ status }) => status === "True" || status === "False", RUN_MS);
    assert.equal(end.status, "True", `${JSON.stringify(end)}\n${await this.stage.controllerLog()}`);
    return await this.stage.admin.get<RestoreRequest>("rr", name, "-n", SHOP);
  }

  /** The first run of a machine that is as wanted, once it succeeded. @throws AssertionError when it failed, or there is none */
  async nextRun(machine: string, wanted: (run: VirtualMachineBackup) => boolean): Promise<VirtualMachineBackup> {
    let last: VirtualMachineBackup | undefined;
    for (const deadline = Date.now() + RUN_MS; Date.now() < deadline; await sleep(200)) {
      const { items } = await this.stage.admin.get<{ items: readonly VirtualMachineBackup[] }>("tvmb", "-n", SHOP);
      last = items.find((run) => run.spec.source.virtualMachine?.name === machine && wanted(run));
      const end = last === undefined ? undefined : conditionOf(last, "Succeeded")?.status;
      if (end === "False" || (end === "True" && last !== undefined)) break;
    }
    const succeeded = last === undefined ? "there is no such run" : conditionOf(last, "Succeeded");
    if (last === undefined || conditionOf(last, "Succeeded")?.status !== "True")
      assert.fail(`${JSON.stringify(succeeded)}\n${await this.stage.controllerLog()}`);
    return last;
  }

  async becomes(condition: Parameters<typeof conditionWhen>[1], status: string): Promise<void> {
    const seen = await conditionWhen(this.stage.admin, condition, (one) => one.status === status, RUN_MS);
    if (seen.status !== status) assert.fail(`${JSON.stringify({ ...condition, ...seen })}\n${await this.stage.controllerLog()}`);
  }
}
