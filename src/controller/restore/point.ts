import type { BackupRepository, RestoreRequest } from "../../api/index.ts";
import { accessOf } from "../access.ts";
import type { ControllerContext } from "../context.ts";
import { BY_MACHINE, machineKey } from "../backup/newest.ts";
import { choosePoint, type ChosenPoint, forbidden, type Standing } from "../plan/kubevirt/choose-point.ts";
import type { Preparation } from "../runs/run.ts";
import { standingOf, targetOf } from "./wish.ts";

type Refused = Extract<Preparation, { readonly kind: "refuse" }>;
type Wait = Extract<Preparation, { readonly kind: "wait" }>;

export interface Found {
  readonly kind: "found";
  readonly repository: BackupRepository;
  readonly pointId: string;
}

/** Whether a request may ask for what it asks, and the point it gets: chosen once, and recorded before anything follows from it. */
export function findPoint(context: ControllerContext, run: RestoreRequest): Found | Refused | Wait {
  const standing = standingOf(run, context.config.namespace);
  const { repository } = run.spec.source;
  const refusal = refusalOfTarget(context, run) ?? forbidden(run, standing);
  if (refusal !== null) return { kind: "refuse", ...refusal };
  return repository === undefined
    ? chosenPoint(context, run, standing)
    : withAccess(context, { run, repository: repository.name }, ({ repository: usable }) => {
        const { pointId } = run.status ?? {};
        return pointId === undefined ? chosenPoint(context, run, standing) : { kind: "found", repository: usable, pointId };
      });
}

function chosenPoint(context: ControllerContext, run: RestoreRequest, standing: Standing): Found | Refused | Wait {
  const chosen = choosePoint(run, mirrorsFor(context, run), standing);
  if ("reason" in chosen) return { kind: "refuse", ...chosen };
  return withAccess(context, { run, repository: chosen.repository }, ({ repository }) => {
    const { pointId } = run.status ?? {};
    return pointId === undefined ? toBeRecorded(chosen) : { kind: "found", repository, pointId };
  });
}

/** Goes on where the request's namespace may use the repository now. */
function withAccess(
  context: ControllerContext,
  { run, repository }: { readonly run: RestoreRequest; readonly repository: string },
  then: (access: { readonly repository: BackupRepository }) => Found | Refused | Wait,
): Found | Refused | Wait {
  const access = accessOf(context, repository, run.metadata.namespace ?? "");
  return "refusal" in access ? { kind: "refuse", ...access.refusal, final: false } : then(access);
}

function toBeRecorded({ pointId, pointTime }: ChosenPoint): Wait {
  const message = `the restore point ${pointId} is to be restored`;
  return { kind: "wait", reason: "ReadingPoint", message, againInMs: 100, status: { pointId, pointTime } };
}

function refusalOfTarget({ caches }: ControllerContext, run: RestoreRequest): Omit<Refused, "kind"> | null {
  const { virtualMachine } = run.spec.target;
  if (virtualMachine === undefined) {
    const message = "the operator cannot restore to a libvirt target yet: run `thinstream restore` on the node";
    return { reason: "TargetNotSupported", message, final: true };
  }
  const { namespace } = targetOf(run, virtualMachine);
  if (caches.namespaces.lister.get(namespace) !== undefined) return null;
  return { reason: "NamespaceNotFound", message: `there is no namespace ${namespace}: make it, and the restore begins`, final: false };
}

function mirrorsFor({ caches }: ControllerContext, run: RestoreRequest): Parameters<typeof choosePoint>[1] {
  const { restorePointRef, repository } = run.spec.source;
  const { lister } = caches.points;
  const home = run.metadata.namespace ?? "";
  if (repository === undefined) {
    const found = lister.get(`${home}/${restorePointRef?.name ?? ""}`);
    return found === undefined ? [] : [found];
  }
  const { name, namespace = home } = repository.vm;
  return lister.byIndex(BY_MACHINE, machineKey(repository.name, { name, namespace }));
}
