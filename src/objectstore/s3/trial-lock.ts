import type { PutObjectCommandInput } from "@aws-sdk/client-s3";
import { type Check, missing, ok, seen, type Trial, type Verdict, wrong } from "../conformance/check.ts";
import { StoreError } from "../errors.ts";
import { unlessUnlocked } from "./s3-locks.ts";
import type { Bucket } from "./trials.ts";

type Open = () => Promise<Bucket>;

/** Long enough to try a deletion, short enough to be gone soon. */
const RETENTION_MS = 60_000;

/** Whether what is written can be taken back by whoever may write. */
export function lockTrials(open: Open): readonly Check[] {
  return [
    {
      name: "versioning is on",
      need: "optional",
      means: {
        ok: "what is overwritten or deleted can be brought back by the bucket's owner",
        otherwise: "what is deleted or overwritten is gone",
        notAllowed: "these credentials may not ask",
      },
      run: async (trial) => await versioning(await open(), trial),
    },
    {
      name: "Object Lock is on",
      need: "optional",
      means: {
        ok: "objects can be made undeletable for a time",
        otherwise: "whoever gets credentials that may delete can delete backups",
        notAllowed: "these credentials may not ask",
      },
      run: async (trial) => await objectLock(await open(), trial),
    },
    {
      name: "retention refuses deletion",
      need: "optional",
      means: {
        ok: "a locked object outlives stolen credentials",
        otherwise: "objects cannot be locked one by one",
        notAllowed: "these credentials may not lock",
      },
      run: async (trial) => await retention(await open(), trial),
    },
  ];
}

async function versioning({ sdk, client, name, ask }: Bucket, { signal }: Trial): Promise<Verdict> {
  const call = client.send(new sdk.GetBucketVersioningCommand({ Bucket: name }), { abortSignal: signal });
  const { Status } = await ask("read the bucket's versioning", call);
  return Status === "Enabled" ? ok : missing(Status === "Suspended" ? "it was suspended" : "");
}

async function objectLock({ sdk, client, name, ask }: Bucket, { signal }: Trial): Promise<Verdict> {
  const call = client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket: name }), { abortSignal: signal });
  const answer = await ask("read the bucket's Object Lock", call).catch(unlessUnlocked);
  const configuration = answer?.ObjectLockConfiguration;
  if (configuration?.ObjectLockEnabled !== "Enabled") return missing("");
  const rule = configuration.Rule?.DefaultRetention;
  if (rule === undefined) return seen("without a default retention");
  const time = rule.Days === undefined ? `${rule.Years} years` : `${rule.Days} days`;
  return seen(`by default ${String(rule.Mode).toLowerCase()} for ${time}`);
}

/** Locks one small object, which stays until its minute is over. */
async function retention(bucket: Bucket, trial: Trial): Promise<Verdict> {
  const { sdk, client, name, ask } = bucket;
  const read = client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket: name }), { abortSignal: trial.signal });
  const lock = await ask("read the bucket's Object Lock", read).catch(unlessUnlocked);
  if (lock === null) return missing("");
  const byDefault = lock.ObjectLockConfiguration?.Rule?.DefaultRetention !== undefined;
  if (!byDefault && (await refusesRemoval(bucket, trial, {}))) {
    return { state: "not-allowed", detail: "nothing may be deleted, so that it cannot be told" };
  }
  const until = new Date(Date.now() + RETENTION_MS);
  const locked = { ObjectLockMode: "GOVERNANCE", ObjectLockRetainUntilDate: until } as const;
  if (!(await refusesRemoval(bucket, trial, locked))) return wrong("a locked object was deleted within its retention");
  return seen(`one object of 4 bytes stays until ${until.toISOString()}`);
}

/** Stores an object, and tries to remove that version of it. */
async function refusesRemoval(bucket: Bucket, trial: Trial, lock: Partial<PutObjectCommandInput>): Promise<boolean> {
  const { sdk, client, name, at, ask } = bucket;
  const options = { abortSignal: trial.signal };
  const place = { Bucket: name, Key: at(`${trial.prefix}retention`) };
  const put = new sdk.PutObjectCommand({ ...place, Body: "kept", ChecksumAlgorithm: "CRC32", ...lock });
  const { VersionId } = await ask("put a locked object", client.send(put, options));
  if (VersionId === undefined) throw new StoreError("failed", "an object in a bucket with Object Lock was stored without a version");
  const removal = client.send(new sdk.DeleteObjectCommand({ ...place, VersionId }), options);
  return await ask("delete a version", removal).then(() => false, isRefusal);
}

function isRefusal(thrown: unknown): boolean {
  if (thrown instanceof StoreError && !thrown.temporary) return true;
  throw thrown;
}
