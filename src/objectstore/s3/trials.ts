import type { ListObjectVersionsCommandInput, ListObjectVersionsCommandOutput, ObjectIdentifier } from "@aws-sdk/client-s3";
import { errorText } from "../../lib/errors.ts";
import type { Check, Leftover, StoreTrials, Trial } from "../conformance/check.ts";
import { removeAll } from "../conformance/plain-trials.ts";
import { StoreError } from "../errors.ts";
import type { S3Location } from "../url.ts";
import { openSession, type S3Session } from "./client.ts";
import { s3Error } from "./errors.ts";
import { checksumTrials } from "./trial-checksums.ts";
import { lockTrials } from "./trial-lock.ts";

/** A bucket as the checks of S3's own features ask it: beside the port, and without retries. */
export interface Bucket extends S3Session {
  readonly name: string;
  /** The key in the bucket of a key of the store. */
  readonly at: (key: string) => string;
  /** Runs a call and says what it failed with in the port's words. */
  readonly ask: <T>(doing: string, call: Promise<T>) => Promise<T>;
}

/** What S3 has beside the port: checksums, versions, Object Lock. Nothing is loaded or sent before the first check. */
export function s3Trials(location: S3Location): StoreTrials {
  let session: Promise<S3Session> | null = null;
  const base = location.prefix === "" ? "" : `${location.prefix}/`;
  const open = async (): Promise<Bucket> => ({
    ...(await (session ??= openSession(location, {}))),
    name: location.bucket,
    at: (key) => base + key,
    ask: async (doing, call) =>
      await call.catch((thrown: unknown) => {
        throw s3Error(thrown, { doing, bucket: location.bucket, endpoint: location.endpoint });
      }),
  });
  const checks: readonly Check[] = [...checksumTrials(open), ...lockTrials(open)];
  return {
    checks,
    cleanUp: async (trial) => await cleanUp(await open(), trial),
    close: async () => (await session?.catch(() => null))?.client.destroy(),
  };
}

type Version = Partial<ObjectIdentifier>;

/** Removes every version of every object; where versions may not be seen, every object. */
async function cleanUp(bucket: Bucket, trial: Trial): Promise<readonly Leftover[]> {
  const versions = await listVersions(bucket, trial).catch(unlessUnknown);
  if (versions === null) return await removeAll(trial);
  const reasons: string[] = [];
  for (const version of versions) {
    const reason = await removeVersion(bucket, version, trial.signal);
    if (reason !== null) reasons.push(reason);
  }
  const [reason] = reasons;
  return reason === undefined ? [] : [{ prefix: trial.prefix, objects: reasons.length, reason }];
}

async function listVersions(bucket: Bucket, { prefix, signal }: Trial): Promise<Version[]> {
  const { sdk, client, name } = bucket;
  const found: Version[] = [];
  const place = { Bucket: name, Prefix: bucket.at(prefix) };
  let input: ListObjectVersionsCommandInput = place;
  for (;;) {
    const call: Promise<ListObjectVersionsCommandOutput> = client.send(new sdk.ListObjectVersionsCommand(input), { abortSignal: signal });
    const page: ListObjectVersionsCommandOutput = await bucket.ask("list versions", call);
    found.push(...(page.Versions ?? []), ...(page.DeleteMarkers ?? []));
    const { NextKeyMarker: KeyMarker, NextVersionIdMarker: VersionIdMarker } = page;
    if (page.IsTruncated !== true || KeyMarker === undefined) return found;
    input = { ...place, KeyMarker, ...(VersionIdMarker === undefined ? {} : { VersionIdMarker }) };
  }
}

function unlessUnknown(thrown: unknown): null {
  if (thrown instanceof StoreError && !thrown.temporary) return null;
  throw thrown;
}

async function removeVersion(bucket: Bucket, version: Version, signal: AbortSignal): Promise<string | null> {
  const { sdk, client, name } = bucket;
  const { Key, VersionId } = version;
  if (Key === undefined) return null;
  const which = VersionId === undefined || VersionId === "null" ? {} : { VersionId };
  const call = client.send(new sdk.DeleteObjectCommand({ Bucket: name, Key, ...which }), { abortSignal: signal });
  return await bucket.ask(`delete ${Key}`, call).then(
    () => null,
    (thrown: unknown) => errorText(thrown),
  );
}
