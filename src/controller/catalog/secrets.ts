import type { BackupRepository } from "../../api/index.ts";
import { isKubeError } from "../../kube/index.ts";
import type { ControllerContext } from "../context.ts";
import { secrets } from "../kinds.ts";

/** What the agents of a repository cannot start without. */
interface Needed {
  readonly ref: { readonly name: string; readonly namespace?: string };
  readonly entries: readonly string[];
  readonly reason: "CredentialsMissing" | "KeyMissing";
}

const CREDENTIALS = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/** Which Secret of the repository is missing, elsewhere than the agents, or without what they need of it; null where all is there. A pod would wait for it without a word. */
export async function secretTrouble(
  { client, config: { namespace } }: ControllerContext,
  repository: BackupRepository,
  signal: AbortSignal,
): Promise<{ readonly reason: Needed["reason"]; readonly message: string } | null> {
  for (const { ref, entries, reason } of neededBy(repository)) {
    const message = await troubleWith(ref, namespace, async (name) => {
      const { data = {} } = await client.get(secrets, { name, namespace }, { signal });
      return entries.filter((entry) => !(entry in data));
    });
    if (message !== null) return { reason, message };
  }
  return null;
}

function neededBy({ spec: { s3, encryption, maintenance } }: BackupRepository): readonly Needed[] {
  const credentials = [s3.credentialsSecretRef, maintenance.credentialsSecretRef].filter((ref) => ref !== undefined);
  const key = encryption.keySecretRef;
  return [
    ...credentials.map((ref): Needed => ({ ref, entries: CREDENTIALS, reason: "CredentialsMissing" })),
    ...(key === undefined ? [] : [{ ref: key, entries: ["thinstream.key"], reason: "KeyMissing" } as const]),
  ];
}

/** @param missing names the entries that a Secret lacks */
async function troubleWith(
  { name, namespace: elsewhere }: Needed["ref"],
  namespace: string,
  missing: (name: string) => Promise<readonly string[]>,
): Promise<string | null> {
  if (elsewhere !== undefined && elsewhere !== namespace)
    return `the Secret ${name} must be in namespace ${namespace}, where the agents run: copy it there, and leave namespace out of the reference`;
  try {
    const entries = await missing(name);
    return entries.length === 0
      ? null
      : `the Secret ${name} in namespace ${namespace} has no ${entries.join(" and no ")}: add what is missing`;
  } catch (thrown) {
    if (!isKubeError(thrown, "not-found")) throw thrown;
    return `there is no Secret ${name} in namespace ${namespace}: make it, or name another`;
  }
}
