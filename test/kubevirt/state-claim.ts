import type { Api, KubeObject } from "../node/index.ts";
import type { VmObject } from "./objects.ts";
import { ownedBy } from "./objects.ts";

/** The claim for a machine's own state, which holds the overlays of changed block tracking: the newest with the VM's label, else a new one. @throws ApiError */
export async function stateClaimOf(api: Api, vm: VmObject): Promise<string> {
  const { name, namespace } = vm.metadata;
  const path = `/api/v1/namespaces/${namespace}/persistentvolumeclaims`;
  const selector = encodeURIComponent(`persistent-state-for=${name}`);
  const { items } = await api.get<{ items: KubeObject[] }>(`${path}?labelSelector=${selector}`);
  const usable = items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const newest = usable.toSorted((a, b) => (b.metadata.creationTimestamp ?? "").localeCompare(a.metadata.creationTimestamp ?? ""))[0];
  if (newest !== undefined) return newest.metadata.name;
  const made = await api.create<KubeObject>(path, {
    metadata: {
      generateName: `persistent-state-for-${name}-`,
      labels: { "persistent-state-for": name },
      ownerReferences: [ownedBy("VirtualMachine", vm)],
    },
    spec: { accessModes: ["ReadWriteOnce"], volumeMode: "Filesystem", resources: { requests: { storage: "522Mi" } } },
  });
  return made.metadata.name;
}
