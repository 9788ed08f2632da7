import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { Condition, ControllerConfigFile, VirtualMachineBackup } from "../../src/api/index.ts";
import { conditionOf } from "../../src/controller/said.ts";
import { Vm } from "../acceptance/vm.ts";
import { type Repo, uniqueName, World } from "../acceptance/world.ts";
import { applyKubeVirt, ControlPlane } from "../cluster/index.ts";
import { compareRaw, type S3Lab } from "../lab/index.ts";
import { NodeSimulator, type Pod, projectImage } from "../node/index.ts";
import { eventually } from "../node/world.ts";
import { applyCrds, conditionWhen, configuration, NAMESPACE, Operator, repositoryObjects } from "./operator.ts";

export interface SceneOptions {
  /** Of the bucket. */
  readonly prefix: string;
  readonly nodes?: readonly string[];
  /** Namespaces beside the operator's, each with labels. */
  readonly namespaces?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly settings?: Partial<ControllerConfigFile>;
  /** A store of the test's own. */
  readonly s3?: S3Lab;
}

/** A cluster with the operator, its repository `main` ready, and a libvirt that is node-a's. */
export class Scene {
  readonly world: World;
  readonly repo: Repo;
  readonly plane: ControlPlane;
  readonly nodes: NodeSimulator;
  readonly operator: Operator;
  #next = 0;

  private constructor(parts: Pick<Scene, "world" | "repo" | "plane" | "nodes" | "operator">) {
    ({ world: this.world, repo: this.repo, plane: this.plane, nodes: this.nodes, operator: this.operator } = parts);
  }

  static async start({ prefix, nodes = ["node-a"], namespaces = {}, settings = {}, s3 }: SceneOptions): Promise<Scene> {
    const world = await World.start("host");
    const repo = await world.s3Repo(prefix, s3);
    const plane = await ControlPlane.start({ controllers: true, scheduler: true });
    const all = Object.entries({ [NAMESPACE]: {}, ...namespaces });
    await plane.admin.apply(all.map(([name, labels]) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } })));
    await applyKubeVirt(plane.admin);
    await applyCrds(plane.admin);
    const simulator = await NodeSimulator.start(plane, { nodes });
    await plane.admin.apply(repositoryObjects("main", repo));
    const operator = new Operator(plane, settings);
    await operator.start();
    await conditionWhen(plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
    return new Scene({ world, repo, plane, nodes: simulator, operator });
  }

  async stop(): Promise<void> {
    await this.operator.stop();
    await this.nodes.stop();
    await this.plane.stop();
    await this.world.stop();
  }

  /** A machine of node-a's libvirt that has a first point. */
  async machine(): Promise<Vm> {
    const vm = await Vm.start(this.world, { vda: { size: "64M" } });
    await vm.write("vda", "write -P 1 0 4M");
    await this.taken("base", vm);
    return vm;
  }

  /** A run for a domain of node-a. */
  domainRun(name: string, { name: domain }: Pick<Vm, "name">, more: object = {}): object {
    const { uri, dir } = this.world.lab;
    const spec = {
      source: { libvirt: { nodeName: "node-a", uri, domain } },
      repositoryRef: { name: "main" },
      // The lab's own directory, which holds its socket and images.
      scratch: { directory: dir },
    };
    return this.run(name, { ...spec, ...more }, NAMESPACE);
  }

  run(name: string, spec: object, namespace: string): object {
    return { apiVersion: "thinstream.dev/v1alpha1", kind: "VirtualMachineBackup", metadata: { name, namespace }, spec };
  }

  async get(name: string): Promise<VirtualMachineBackup> {
    return await this.plane.admin.get<VirtualMachineBackup>("tvmb", name, "-n", NAMESPACE);
  }

  /** A run when its end is decided. */
  async finished(name: string, ms: number = 120_000): Promise<VirtualMachineBackup> {
    const subject = { kind: "tvmb", name, namespace: NAMESPACE, type: "Succeeded" };
    await conditionWhen(this.plane.admin, subject, ({ status }) => status === "True" || status === "False", ms);
    return await this.get(name);
  }

  /** What a run says, once it says it for this reason. */
  async says(name: string, reason: string, ms: number = 120_000): Promise<Condition> {
    const subject = { kind: "tvmb", name, namespace: NAMESPACE, type: "Succeeded" };
    await conditionWhen(this.plane.admin, subject, (condition) => condition.reason === reason, ms);
    return conditionOf(await this.get(name), "Succeeded") as Condition;
  }

  /** A run that must succeed. */
  async taken(name: string, vm: Vm, more: object = {}): Promise<VirtualMachineBackup> {
    await this.plane.admin.apply([this.domainRun(name, vm, more)]);
    const run = await this.finished(name);
    expect(conditionOf(run, "Succeeded"), this.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    return run;
  }

  /** What the repository gives back of a run's point is, byte for byte, what its disks were. */
  async expectRestores({ status }: VirtualMachineBackup, references: ReadonlyMap<string, string>): Promise<void> {
    const output = this.world.output();
    await this.world.json("restore", ["--point", status?.pointId ?? "", "--output", output], this.repo);
    expect(status?.disks?.map(({ name }) => name)).toEqual([...references.keys()]);
    for (const [disk, reference] of references) expect(await compareRaw(join(output, `${disk}.raw`), reference)).toBeUndefined();
  }

  /** A run that is right: incremental to the byte, its point restores as the disks are, and nothing of it or of one before is left. */
  async expectRight(name: string, vm: Vm, dirtyBytes: number): Promise<void> {
    const references = await vm.references();
    const run = await this.taken(name, vm);
    expect(run.status).toMatchObject({ level: "Incremental", attempts: 1, disks: [{ dirtyBytes }] });
    await this.expectRestores(run, references);
    await vm.expectTidy();
    await this.expectNothingLeft();
  }

  /** A granule is written, and the run that follows is right. */
  async expectNextIsRight(vm: Vm): Promise<void> {
    this.#next += 1;
    await vm.write("vda", `write -P ${100 + this.#next} ${60 - this.#next}M 64k`);
    await this.expectRight(`next-${this.#next}`, vm, 65_536);
  }

  /** The reasons of an object's events. */
  async events(kind: string, name: string, namespace: string = NAMESPACE): Promise<readonly string[]> {
    const selector = `involvedObject.kind=${kind},involvedObject.name=${name}`;
    const { items } = await this.plane.admin.get<{ items: readonly { reason: string }[] }>(
      "events",
      "-n",
      namespace,
      "--field-selector",
      selector,
    );
    return items.map(({ reason }) => reason);
  }

  /** Events are written a moment after the conditions they go with. */
  async expectEvent(
    kind: string,
    name: string,
    { reason, namespace = NAMESPACE }: { readonly reason: string; readonly namespace?: string },
  ): Promise<void> {
    await expect.poll(() => this.events(kind, name, namespace), { timeout: 30_000 }).toContain(reason);
  }

  /** Pods, and Secrets of orders, that runs have now, in every namespace. */
  async agentObjects(): Promise<readonly string[]> {
    const what = ["get", "pods,secrets", "-A", "-l", "thinstream.dev/work,thinstream.dev/work!=catalog", "-o", "name"];
    return (await this.plane.admin.kubectl(what)).trim().split("\n").filter((line) => line !== ""); // prettier-ignore
  }

  /** Resolves when a run is done, and everything that was made for it is gone. */
  async quietAfter(name: string): Promise<void> {
    await this.finished(name);
    await eventually(
      () => this.agentObjects(),
      (left) => left.length === 0,
    );
  }

  async expectNothingLeft(): Promise<void> {
    await expect.poll(() => this.agentObjects(), { timeout: 60_000 }).toEqual([]);
  }

  /** The pods of a run's agent, when there is one. */
  async agentOf(name: string): Promise<Pod> {
    const { metadata } = await this.get(name);
    const find = async (): Promise<readonly Pod[]> => {
      const label = `thinstream.dev/run=${metadata.uid ?? ""},thinstream.dev/work=backup`;
      return (await this.plane.admin.get<{ items: readonly Pod[] }>("pods", "-n", NAMESPACE, "-l", label)).items;
    };
    const [pod] = await eventually(find, (pods) => pods.length > 0);
    if (pod === undefined) throw new Error(`the run ${name} has no agent`);
    return pod;
  }

  /** From now on agents wait at a step of a backup, to be disturbed there. */
  pauseAt(step: string): Pause {
    const file = join(this.world.lab.dir, uniqueName("steps"));
    this.#image({ THINSTREAM_STEPS: file, THINSTREAM_PAUSE_AT: step });
    const steps = (): readonly string[] => {
      try {
        return readFileSync(file, "utf8").split("\n");
      } catch {
        return [];
      }
    };
    return {
      reached: async () => {
        const seen = await eventually(steps, (now) => now.includes(step));
        expect(seen).toContain(step);
        // The next attempt passes.
        this.resetImage();
      },
      end: () => rmSync(file),
    };
  }

  /** Agents that start later have the image that they should have. */
  resetImage(): void {
    this.#image({});
  }

  #image(env: Readonly<Record<string, string>>): void {
    this.nodes.image(configuration.image, { ...projectImage, env });
  }
}

export interface Pause {
  /** Resolves when an agent waits there; agents that start later do not. */
  reached(): Promise<void>;
  /** Lets it go on. */
  end(): void;
}
