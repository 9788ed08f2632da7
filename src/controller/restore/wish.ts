import type { RestoreRequest } from "../../api/index.ts";
import { identityOf } from "../identity.ts";
import type { Standing } from "../plan/kubevirt/choose-point.ts";
import type { RestoreWish } from "../plan/kubevirt/restore-request.ts";

type Target = NonNullable<RestoreRequest["spec"]["target"]["virtualMachine"]>;

/** What a request's target asks for. @param target its `virtualMachine` */
export function wishOf(run: RestoreRequest, target: Target): RestoreWish {
  const { uid } = identityOf(run);
  const { disks = [], storageClassMapping = {} } = run.spec;
  return {
    uid,
    ...targetOf(run, target),
    existing: target.existing,
    runStrategy: target.runStrategy,
    identity: target.identity,
    disks: Object.fromEntries(disks.map(({ name, ...disk }) => [name, disk])),
    storageClassMapping,
  };
}

/** Where the machine is to be. */
export function targetOf({ metadata }: RestoreRequest, { name, namespace }: Target): { readonly namespace: string; readonly name: string } {
  return { namespace: namespace ?? metadata.namespace ?? "", name };
}

export function standingOf({ metadata }: RestoreRequest, home: string): Standing {
  return { namespace: metadata.namespace ?? "", home };
}
