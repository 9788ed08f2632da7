import { isKubeError, type KubeClient, type KubeObject, type ResourceKind } from "../../kube/index.ts";
import { claims, instances, type Loose, machines, migrations, pods, volumes } from "../kinds.ts";
import type { MachineFacts } from "../plan/kubevirt/facts.ts";
import type {
  Claim,
  KubevirtBackup,
  LauncherPod,
  Migration,
  VirtualMachine,
  VirtualMachineInstance,
  Volume,
} from "../plan/kubevirt/objects.ts";

function foreign(kind: string, plural: string): ResourceKind<Loose> {
  return { group: "backup.kubevirt.io", version: "v1alpha1", plural, kind, namespaced: true };
}

const foreignBackups = foreign("VirtualMachineBackup", "virtualmachinebackups");
const foreignTrackers = foreign("VirtualMachineBackupTracker", "virtualmachinebackuptrackers");

/** Everything the API server says of one machine now, asked for anew: what is decided on it is begun at once. */
export async function gatherFacts(
  client: KubeClient,
  ref: { readonly namespace: string; readonly name: string },
  signal: AbortSignal,
): Promise<MachineFacts> {
  const { namespace, name } = ref;
  const one = async <T>(kind: ResourceKind, which: string): Promise<T | null> =>
    (await orNull(client.get(kind, { namespace, name: which }, { signal }))) as T | null;
  const all = async <T>(kind: ResourceKind): Promise<readonly T[]> =>
    (await listed(client, kind, { namespace, signal })) as unknown as readonly T[];
  const [vm, vmi, podsThere, migrationsThere, backups, trackers, claimsThere] = await Promise.all([
    one<VirtualMachine>(machines, name),
    one<VirtualMachineInstance>(instances, name),
    all<LauncherPod>(pods),
    all<Migration>(migrations),
    all<KubevirtBackup>(foreignBackups),
    all<KubevirtBackup>(foreignTrackers),
    all<Claim>(claims),
  ]);
  const used = new Set(claimNames(vm, vmi));
  const ours = claimsThere.filter(({ metadata }) => used.has(metadata.name ?? "") || metadata.labels?.["persistent-state-for"] === name);
  const bound = await Promise.all(ours.map(async ({ spec }) => await volumeOf(client, spec?.volumeName, signal)));
  return {
    namespace,
    name,
    vm,
    vmi,
    pods: podsThere,
    migrations: migrationsThere,
    backups,
    trackers,
    claims: ours,
    volumes: bound.filter((volume) => volume !== null),
  };
}

/** The claims that a machine's volumes name; a data volume's claim has its name. */
function claimNames(vm: VirtualMachine | null, vmi: VirtualMachineInstance | null): string[] {
  const specs = [vmi?.spec, vm?.spec?.template?.spec].filter((spec) => spec !== undefined);
  return specs.flatMap(({ volumes: named = [] }) =>
    named.flatMap(({ persistentVolumeClaim, dataVolume }) =>
      [persistentVolumeClaim?.claimName, dataVolume?.name].filter((claim) => claim !== undefined),
    ),
  );
}

async function volumeOf(client: KubeClient, name: string | undefined, signal: AbortSignal): Promise<Volume | null> {
  if (name === undefined) return null;
  return (await orNull(client.get(volumes, { name }, { signal }))) as Volume | null;
}

async function listed(
  client: KubeClient,
  kind: ResourceKind,
  { namespace, signal }: { readonly namespace: string; readonly signal: AbortSignal },
): Promise<KubeObject[]> {
  const found: KubeObject[] = [];
  try {
    for await (const page of client.list(kind, { namespace, signal })) found.push(...page.items);
  } catch (thrown) {
    // A kind that is not served has no objects.
    if (!isKubeError(thrown, "not-found")) throw thrown;
  }
  return found;
}

async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (thrown) {
    if (isKubeError(thrown, "not-found")) return null;
    throw thrown;
  }
}
