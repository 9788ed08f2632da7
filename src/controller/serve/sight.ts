import type { BackupPolicy } from "../../api/index.ts";
import type { Answers, WorkQueue } from "../../kube/index.ts";
import type { Listers } from "../context.ts";
import type { Protection } from "../plan/rpo.ts";
import { protectionsNow } from "../policy/protection.ts";
import { selectAll, type Selected } from "../policy/select.ts";

/** What there is to be seen at one moment. */
export interface Scene {
  /** Null where this controller does not lead: what the cluster has is told by one alone, so that sums over replicas are right. */
  readonly caches: Listers | null;
  readonly queues: readonly Pick<WorkQueue, "name" | "figures">[];
  readonly answers: readonly Answers[];
  readonly leads: boolean;
  readonly now: Date;
}

/** A policy with what it selects, and how well each machine of its own is protected. */
export interface PolicySight {
  readonly policy: BackupPolicy;
  /** those that another policy backs up counted in */
  readonly matched: number;
  readonly machines: readonly { readonly machine: Selected; readonly protection: Protection }[];
}

/** A machine of which something is to be told. */
export interface MachineSight {
  /** empty for a libvirt domain */
  readonly namespace: string;
  readonly vm: string;
  /** seconds of the epoch; 0: it has no restore point */
  readonly newest: number;
}

/** One scrape's view of a scene: what several metrics need is worked out once. */
export class Sight {
  readonly scene: Scene;
  #policies: readonly PolicySight[] | null = null;

  constructor(scene: Scene) {
    this.scene = scene;
  }

  get policies(): readonly PolicySight[] {
    this.#policies ??= policiesOf(this.scene);
    return this.#policies;
  }

  /** Machines that a policy selects or that have restore points, with the time of their newest in any repository. */
  get machines(): Iterable<MachineSight> {
    const found = new Map<string, MachineSight>();
    const add = (namespace: string, vm: string, newest: number): void => {
      const key = `${namespace}/${vm}`;
      if (newest >= (found.get(key)?.newest ?? 0)) found.set(key, { namespace, vm, newest });
    };
    for (const { machines } of this.policies) for (const { machine } of machines) add(machine.namespace, machine.name, 0);
    for (const { spec } of this.scene.caches?.points.lister.list() ?? []) {
      add(spec.vm.namespace ?? "", spec.vm.name, Date.parse(spec.time) / 1000);
    }
    return found.values();
  }
}

function policiesOf({ caches, now }: Scene): readonly PolicySight[] {
  if (caches === null) return [];
  return [...selectAll(caches)].flatMap(([name, selected]) => {
    const policy = caches.policies.lister.get(name);
    if (policy === undefined) return [];
    const own = selected.filter(({ otherPolicy }) => otherPolicy === null);
    const protections = protectionsNow({ caches, now: () => now }, policy, own);
    const machines = protections.flatMap((protection, place) => {
      const machine = own[place];
      return machine === undefined ? [] : [{ machine, protection }];
    });
    return [{ policy, matched: selected.length, machines }];
  });
}
