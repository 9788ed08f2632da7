import { fitName } from "../naming/names.ts";
import { findObject } from "./bundle.ts";
import type { VirtualMachine } from "./objects.ts";
import { type PointFacts, restoreAnnotation, type RestoreStep, type RestoreWish } from "./restore-request.ts";

/** The ControllerRevisions of a machine's instance type and preference, as they are restored. */
export interface PlannedRevisions {
  /** new names by former ones */
  readonly names: ReadonlyMap<string, string>;
  readonly steps: readonly RestoreStep[];
}

/** A revision that a copy shared with its original would go with the original, so a copy gets its own. */
export function planRevisions({
  wish,
  point,
  vm,
}: {
  readonly wish: RestoreWish;
  readonly point: PointFacts;
  readonly vm: VirtualMachine;
}): PlannedRevisions {
  const isSame = wish.name === point.bundle.name;
  const wanted = new Set([revisionOf(vm, "instancetype"), revisionOf(vm, "preference")]);
  const found = [...wanted].flatMap((name) => (name === undefined ? [] : (findObject(point.bundle, "ControllerRevision", name) ?? [])));
  const named = found.map((object) => {
    const { name = "", labels = {} } = object.metadata;
    return { object, former: name, name: isSame ? name : fitName(`${wish.name}-${name}`), labels };
  });
  const steps = named.map(({ object, name, labels }): RestoreStep => {
    const metadata = { name, namespace: wish.namespace, labels, annotations: { [restoreAnnotation]: wish.uid } };
    return { stage: "revision", ifExists: isSame ? "keep" : "own", object: { ...object, metadata } };
  });
  return { names: new Map(named.map(({ former, name }) => [former, name])), steps };
}

/** Instance type and preference for the restored machine. A revision that is not restored is not named: KubeVirt then makes one of what the cluster has. */
export function flavorsOf(vm: VirtualMachine, revisions: ReadonlyMap<string, string>): object {
  return Object.fromEntries(
    (["instancetype", "preference"] as const).flatMap((kind) => {
      const chosen = vm.spec?.[kind];
      if (chosen === undefined) return [];
      const { revisionName: _revisionName, ...flavor } = chosen;
      const name = revisions.get(revisionOf(vm, kind) ?? "");
      return [[kind, name === undefined ? flavor : { ...flavor, revisionName: name }]];
    }),
  );
}

/** KubeVirt 1.4 and later name it in the status alone. */
export function revisionOf({ spec, status }: VirtualMachine, kind: "instancetype" | "preference"): string | undefined {
  return status?.[`${kind}Ref`]?.controllerRevisionRef?.name ?? spec?.[kind]?.revisionName;
}
