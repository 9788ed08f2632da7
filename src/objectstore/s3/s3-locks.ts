import type { DefaultRetention, DeleteMarkerEntry, ListObjectVersionsCommandInput, ObjectVersion as Version } from "@aws-sdk/client-s3";

import { StoreError } from "../errors.ts";
import { isKey } from "../keys.ts";
import type { DefaultLock, Lock, LockMode, ObjectLocks, ObjectVersion, VersionPage } from "../locks.ts";
import type { CallOptions } from "../objectstore.ts";
import type { S3Session } from "./client.ts";
import { S3Failure } from "./errors.ts";
import { goesOn } from "./pages.ts";

type Call = S3Session & { readonly abortSignal: AbortSignal };

/** How the store has a call carried out. */
export type Run = <T>(doing: string, key: string | null, options: CallOptions, work: (call: Call) => Promise<T>) => Promise<T>;

/** Object Lock of a bucket. */
export class S3Locks implements ObjectLocks {
  readonly #bucket: string;
  /** what the keys of the store begin with in the bucket */
  readonly #base: string;
  readonly #run: Run;

  constructor(bucket: string, base: string, run: Run) {
    this.#bucket = bucket;
    this.#base = base;
    this.#run = run;
  }

  async configuration(options: CallOptions = {}): ReturnType<ObjectLocks["configuration"]> {
    return await this.#run("read the bucket's Object Lock", null, options, async ({ sdk, client, abortSignal }) => {
      const command = new sdk.GetObjectLockConfigurationCommand({ Bucket: this.#bucket });
      return (await client.send(command, { abortSignal })).ObjectLockConfiguration;
    }).then((found) => {
      if (found?.ObjectLockEnabled !== "Enabled") return null;
      return { byDefault: defaultOf(found.Rule?.DefaultRetention) };
    }, unlessUnlocked);
  }

  async versions(prefix: string, from: string | null, options: CallOptions = {}): Promise<VersionPage> {
    return await this.#run(`list versions of ${prefix}`, null, options, async ({ sdk, client, abortSignal }) => {
      const [KeyMarker, VersionIdMarker] = from === null ? [] : (JSON.parse(from) as [string, string]);
      const input: ListObjectVersionsCommandInput = { Bucket: this.#bucket, Prefix: this.#base + prefix, KeyMarker, VersionIdMarker };
      const answer = await client.send(new sdk.ListObjectVersionsCommand(input), { abortSignal });
      const entries = [
        ...(answer.Versions ?? []).map((entry) => this.#entry(entry, entry.Size ?? 0)),
        ...(answer.DeleteMarkers ?? []).map((entry) => this.#entry(entry, null)),
      ];
      const { NextKeyMarker: key = "", NextVersionIdMarker: version = "" } = answer;
      return {
        // A stable sort: the store's own order of a key's versions is finer than their dates.
        versions: entries.filter((entry) => isKey(entry.key)).toSorted((a, b) => (a.key === b.key ? 0 : a.key < b.key ? -1 : 1)),
        next: goesOn(answer.IsTruncated, key) ? JSON.stringify([key, version]) : null,
      };
    });
  }

  async find(key: string, version: string, options: CallOptions = {}): Promise<Lock | null> {
    return await this.#run(`read the lock of ${key}`, key, options, async ({ sdk, client, abortSignal }) => {
      const command = new sdk.GetObjectRetentionCommand(this.#place(key, version));
      return (await client.send(command, { abortSignal })).Retention;
    }).then((found) => {
      const mode = modeOf(found?.Mode);
      return mode === null || found?.RetainUntilDate === undefined ? null : { mode, until: found.RetainUntilDate };
    }, unlessUnlocked);
  }

  async extend(key: string, version: string, { mode, until }: Lock, options: CallOptions = {}): Promise<void> {
    await this.#run(`lock ${key}`, key, options, async ({ sdk, client, abortSignal }) => {
      const Retention = { Mode: mode === "compliance" ? "COMPLIANCE" : "GOVERNANCE", RetainUntilDate: until } as const;
      const command = new sdk.PutObjectRetentionCommand({ ...this.#place(key, version), Retention });
      await client.send(command, { abortSignal });
    });
  }

  #place(key: string, version: string): { readonly Bucket: string; readonly Key: string; readonly VersionId: string } {
    return { Bucket: this.#bucket, Key: this.#base + key, VersionId: version };
  }

  /** @param size null: a marker */
  #entry({ Key = "", VersionId = "", LastModified, IsLatest }: Version | DeleteMarkerEntry, size: number | null): ObjectVersion {
    return {
      key: Key.slice(this.#base.length),
      version: VersionId,
      modified: LastModified ?? new Date(0),
      size: size ?? 0,
      isLatest: IsLatest === true,
      isMarker: size === null,
    };
  }
}

function defaultOf(rule: DefaultRetention | undefined): DefaultLock | null {
  const mode = modeOf(rule?.Mode);
  const { Days = 0, Years = 0 } = rule ?? {};
  const days = Days + Years * 365;
  return mode === null || days === 0 ? null : { mode, days };
}

function modeOf(mode: string | undefined): LockMode | null {
  if (mode === "COMPLIANCE") return "compliance";
  return mode === "GOVERNANCE" ? "governance" : null;
}

const UNLOCKED = ["ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"];

/** Neither a bucket without Object Lock nor an object without a lock has a configuration of it. */
export function unlessUnlocked(thrown: unknown): null {
  const cause = thrown instanceof StoreError ? thrown.cause : null;
  if (cause instanceof S3Failure && (UNLOCKED.includes(cause.name) || [405, 501].includes(cause.status))) return null;
  throw thrown;
}
