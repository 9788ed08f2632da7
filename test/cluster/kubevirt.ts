import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Identity } from "./identity.ts";

/** Makes the API server know KubeVirt's and CDI's kinds: names and scopes as they are, any fields. @throws ClusterError */
export async function applyKubeVirt(admin: Identity): Promise<void> {
  await admin.apply(readFileSync(join(import.meta.dirname, "kubevirt-crds.yaml"), "utf8"));
  await admin.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
}
