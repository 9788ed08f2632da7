import { type Bundle, keyOfObject } from "./bundle.ts";
import { isCopy, without, withoutMarks } from "./marks.ts";
import { restoreAnnotation, type RestoreStep, type RestoreWish, type TargetFacts } from "./restore-request.ts";

const kinds = new Set(["Secret", "ConfigMap", "ServiceAccount"]);
/** Made by the cluster for one of its own ServiceAccounts, and worth nothing in another. */
const tokenType = "kubernetes.io/service-account-token";

/** The Secrets, ConfigMaps and ServiceAccounts that a machine uses. One that is there stays as it is: others may use it too. */
export function planConfig(bundle: Bundle, wish: RestoreWish): readonly RestoreStep[] {
  const copied = isCopy(wish, bundle);
  return bundle.objects
    .filter((object) => kinds.has(object.kind) && object.metadata.namespace === bundle.namespace && object["type"] !== tokenType)
    .map((object): RestoreStep => {
      const { name = "" } = object.metadata;
      const labels = withoutMarks(object.metadata.labels, copied);
      const annotations = without(withoutMarks(object.metadata.annotations, copied), (key) => /^(?:kubectl\.)?kubernetes\.io\//.test(key));
      const metadata = { name, namespace: wish.namespace, labels, annotations: { ...annotations, [restoreAnnotation]: wish.uid } };
      const { secrets: _secrets, status: _status, ...rest } = object;
      return { stage: "config", ifExists: "keep", object: { ...rest, metadata } };
    });
}

/** What a restored machine names and neither the point nor the cluster has. */
export function configWarnings({ objects, missing, namespace }: Bundle, wish: RestoreWish, { existing }: TargetFacts): readonly string[] {
  const away = (key: string): string => (key.split("/")[1] === namespace ? key.replace(`/${namespace}/`, `/${wish.namespace}/`) : key);
  const lost = missing.filter((key) => /^(?:Secret|ConfigMap|ServiceAccount)\//.test(key) && !existing.has(away(key)));
  const networks = objects.filter(({ kind }) => kind === "NetworkAttachmentDefinition").map((object) => away(keyOfObject(object)));
  const missingNetworks = missing.filter((key) => key.startsWith("NetworkAttachmentDefinition/")).map(away);
  return [
    ...lost.map((key) => `${title(key)} is not in the restore point, so it is not restored: make it before the machine starts`),
    ...[...networks, ...missingNetworks]
      .filter((key) => !existing.has(key))
      .map((key) => `${title(key)} is not there: networks are not restored, so make it before the machine starts`),
  ];
}

function title(key: string): string {
  const [kind, namespace, name] = key.split("/");
  return namespace === "" ? `the ${kind} ${name}` : `the ${kind} ${namespace}/${name}`;
}
