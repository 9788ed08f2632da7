import { randomBytes } from "node:crypto";
import type { Api, KubeObject } from "../node/index.ts";
import type { Launcher } from "./launcher.ts";
import type { Machine } from "./machine.ts";
import { KUBEVIRT, vmiPath } from "./objects.ts";

/** A migration that is under way until the test ends it. */
export class Migration {
  readonly #api: Api;
  readonly #machine: Machine;
  readonly #object: KubeObject;
  readonly #target: Launcher;
  readonly #state: object;

  private constructor(api: Api, machine: Machine, made: { object: KubeObject; target: Launcher; state: object }) {
    this.#api = api;
    this.#machine = machine;
    this.#object = made.object;
    this.#target = made.target;
    this.#state = made.state;
  }

  /** Makes the VirtualMachineInstanceMigration and the target pod, and says in the instance's status that it migrates. @throws LabError */
  static async begin(api: Api, machine: Machine, node: string): Promise<Migration> {
    const { namespace, name } = machine.vmi.metadata;
    const object = await api.create<KubeObject>(`${KUBEVIRT}/namespaces/${namespace}/virtualmachineinstancemigrations`, {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachineInstanceMigration",
      metadata: { name: `${name}-${randomBytes(3).toString("hex")}`, namespace, labels: { "kubevirt.io/vmi-name": name } },
      spec: { vmiName: name },
    });
    await api.patch(statusPath(object), { status: { phase: "Scheduling" } });
    const target = await machine.target(node, object);
    const [source, migrationUid] = [machine.pod, object.metadata.uid];
    const state = {
      migrationUid,
      sourceNode: machine.node,
      sourcePod: source.metadata.name,
      targetNode: node,
      targetPod: target.pod.metadata.name,
      startTimestamp: time(),
      mode: "PreCopy",
    };
    const activePods = { [source.metadata.uid]: machine.node, [target.pod.metadata.uid]: node };
    await api.patch(vmiPath(machine.vmi), { status: { migrationState: state, activePods } });
    await api.patch(statusPath(object), { status: { phase: "Running", migrationState: state } });
    return new Migration(api, machine, { object, target, state });
  }

  /** The machine goes on where it was sent. @throws LabError */
  async complete(): Promise<void> {
    const old = this.#machine.pod.metadata.uid;
    await this.#machine.moveTo(this.#target);
    await this.#over({ completed: true }, { [old]: null }, "Succeeded");
  }

  /** The machine stays where it is. @throws LabError */
  async fail(): Promise<void> {
    const { pod } = this.#target;
    await this.#api.remove(`/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}`);
    await this.#over({ completed: true, failed: true, abortStatus: "Succeeded" }, { [pod.metadata.uid]: null }, "Failed");
  }

  async #over(how: object, activePods: object, phase: string): Promise<void> {
    const migrationState = { ...this.#state, endTimestamp: time(), ...how };
    await this.#api.patch(vmiPath(this.#machine.vmi), { status: { migrationState, activePods } });
    await this.#api.patch(statusPath(this.#object), { status: { phase, migrationState } });
  }
}

function statusPath({ metadata }: KubeObject): string {
  return `${KUBEVIRT}/namespaces/${metadata.namespace}/virtualmachineinstancemigrations/${metadata.name}/status`;
}

function time(): string {
  return new Date().toISOString().replace(/\.\d+/, "");
}
