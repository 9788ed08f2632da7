import type { KubeObject } from "./bundle.ts";
import { claimName, type ClaimContext } from "./restore-claim.ts";
import { flavorsOf } from "./restore-flavors.ts";
import { type Identity, withIdentity } from "./identity.ts";
import type { InstanceSpec, VirtualMachine, VmDisk, VmVolume } from "./objects.ts";
import { isCopy, without, withoutMarks } from "./marks.ts";
import { restoreAnnotation, type RestoreStep } from "./restore-request.ts";

/** KubeVirt's own labels of an instance, which no template may have. */
const restrictedLabels = new Set(
  ["created-by", "migrationJobUID", "nodeName", "migrationTargetNodeName", "schedulable", "install-strategy"].map(
    (name) => `kubevirt.io/${name}`,
  ),
);
/** Written by the API server and controllers about the object they were on, and wrong on another. */
const staleAnnotation =
  /^(?:restore\.kubevirt\.io\/|kubectl\.kubernetes\.io\/last-applied-configuration$|kubevirt\.io\/(?:latest|storage)-observed-api-version$|kubemacpool\.io\/|thinstream\.dev\/restore)/;
export interface MachineContext extends ClaimContext {
  readonly vm: VirtualMachine;
  readonly identity: Identity;
  /** The volumes that are restored, by name. */
  readonly restored: ReadonlySet<string>;
  /** Those that the machine goes without. */
  readonly dropped: ReadonlySet<string>;
  /** New names of ControllerRevisions that are restored. */
  readonly revisions: ReadonlyMap<string, string>;
}

/** The machine as it is created: stopped, with the volumes and identity it is to have, and without what belonged to the former object. */
export function planMachine(context: MachineContext): RestoreStep {
  const { wish, vm, point } = context;
  const copied = isCopy(wish, point.bundle);
  const { running: _running, template, dataVolumeTemplates, ...spec } = vm.spec ?? {};
  const volumes = withHotplugged(template?.spec ?? {}, context);
  const templates = context.target.hasCdi ? planTemplates(dataVolumeTemplates ?? [], context) : [];
  const object: KubeObject = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: {
      name: wish.name,
      namespace: wish.namespace,
      labels: withoutMarks(vm.metadata.labels, copied),
      annotations: {
        ...without(withoutMarks(vm.metadata.annotations, copied), (name) => staleAnnotation.test(name)),
        [restoreAnnotation]: wish.uid,
      },
    },
    spec: {
      ...spec,
      ...flavorsOf(vm, context.revisions),
      runStrategy: "Halted",
      template: { ...template, ...templateMetadata(template), spec: planSpec(volumes, context) },
      ...(templates.length === 0 ? {} : { dataVolumeTemplates: templates }),
    },
  };
  return { stage: "machine", ifExists: "own", object };
}

/** A machine's own run strategy, whichever field says it. */
export function runStrategyOf({ spec }: VirtualMachine): string {
  return spec?.runStrategy ?? (spec?.running === true ? "Always" : "Halted");
}

function planSpec(spec: InstanceSpec, context: MachineContext): InstanceSpec {
  const { wish, point, vmi, dropped, identity } = context;
  const devices = spec.domain?.devices;
  const disks = devices?.disks?.filter(({ name }) => !dropped.has(name));
  const seed = `${wish.uid}/${wish.namespace}/${wish.name}`;
  return withIdentity(
    {
      ...spec,
      domain: { ...spec.domain, devices: { ...devices, ...(disks === undefined ? {} : { disks }) } },
      volumes: (spec.volumes ?? []).filter(({ name }) => !dropped.has(name)).map((volume) => planVolume(volume, context)),
    },
    identity,
    { sourceName: point.bundle.name, vmi, seed },
  );
}

/** Disks plugged into the running machine alone become its own: in the restored one there is nothing they could be plugged into later. */
function withHotplugged(spec: InstanceSpec, { vmi, restored }: MachineContext): InstanceSpec {
  const own = partsOf(spec);
  const isPlugged = ({ name }: { readonly name: string }): boolean =>
    restored.has(name) && !own.volumes.some((volume) => volume.name === name);
  const { volumes, disks } = partsOf(vmi?.spec);
  const devices = { ...spec.domain?.devices, disks: [...own.disks, ...disks.filter(isPlugged)] };
  return volumes.some(isPlugged)
    ? { ...spec, domain: { ...spec.domain, devices }, volumes: [...own.volumes, ...volumes.filter(isPlugged)] }
    : spec;
}

function partsOf(spec: InstanceSpec | undefined): { readonly volumes: readonly VmVolume[]; readonly disks: readonly VmDisk[] } {
  return { volumes: spec?.volumes ?? [], disks: spec?.domain?.devices?.disks ?? [] };
}

function planVolume(volume: VmVolume, context: MachineContext): VmVolume {
  if (!context.restored.has(volume.name)) return volume;
  const name = claimName(volume, context);
  if (volume.persistentVolumeClaim !== undefined)
    return { ...volume, persistentVolumeClaim: { ...volume.persistentVolumeClaim, claimName: name } };
  const { dataVolume, ...rest } = volume;
  const { hotpluggable } = dataVolume ?? {};
  // Without CDI nobody would make a DataVolume; its claim is there.
  if (!context.target.hasCdi)
    return { ...rest, persistentVolumeClaim: { claimName: name, ...(hotpluggable === undefined ? {} : { hotpluggable }) } };
  return { ...rest, dataVolume: { ...dataVolume, name } };
}

/** CDI fills what a template describes, unless it is told that the claim is filled already. */
function planTemplates(
  templates: readonly { readonly metadata: { readonly name?: string } }[],
  context: MachineContext,
): readonly object[] {
  const volumes = context.vm.spec?.template?.spec?.volumes ?? [];
  return templates.flatMap((template) => {
    const volume = volumes.find(({ dataVolume }) => dataVolume?.name === template.metadata.name);
    if (volume === undefined || !context.restored.has(volume.name)) return [];
    const name = claimName(volume, context);
    return [{ ...template, metadata: { name, annotations: { "cdi.kubevirt.io/storage.prePopulated": name } } }];
  });
}

function templateMetadata(template: object | undefined): object {
  const { metadata } = (template ?? {}) as {
    readonly metadata?: { readonly labels?: Readonly<Record<string, string>>; readonly annotations?: Readonly<Record<string, string>> };
  };
  if (metadata === undefined) return {};
  const { labels, annotations } = metadata;
  return {
    metadata: {
      ...(labels === undefined ? {} : { labels: without(labels, (name) => restrictedLabels.has(name)) }),
      ...(annotations === undefined ? {} : { annotations }),
    },
  };
}
