import type { PutObjectCommandInput } from "@aws-sdk/client-s3";
import { anySignal } from "../../lib/abort.ts";
import { crc32Of } from "../../lib/crc32.ts";
import { StoreError } from "../errors.ts";
import { alreadyExists, checkKey, checkOffset, checkPrefix, defaultMaxBytes, isKey, outOfRange, storeClosed } from "../keys.ts";
import type { ObjectLocks } from "../locks.ts";
import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore, PutOptions, StatOptions } from "../objectstore.ts";
import { formatS3Url, type S3Location } from "../url.ts";
import { readRange, readWhole } from "./body.ts";
import { openSession, type S3Options, type S3Session } from "./client.ts";
import { crc32Header, parseCrc32, sha256Header } from "./digest.ts";
import { s3Error } from "./errors.ts";
import { goesOn } from "./pages.ts";
import { type Marker, Past, type PastPage } from "./past.ts";
import { type Run, S3Locks } from "./s3-locks.ts";

/** What one call works with. */
interface Call extends S3Session {
  /** Goes to `send`: aborts with the caller's signal and when the store is closed. */
  readonly abortSignal: AbortSignal;
}

/**
 * Objects in a bucket of an S3-compatible store, each written by one PutObject. Credentials come by the SDK's default chain.
 *
 * Every body travels with its CRC-32, which the store verifies and keeps (also what Object Lock asks for). Of the checksums S3 knows it is the
 * one that Node computes natively and without SHA instructions of the processor; CRC-64/NVME and CRC-32C run in JavaScript there, SHA-256 at a
 * fifth of the speed on processors without SHA instructions. Until the store has been seen to answer with the checksum it kept, bodies are
 * signed by SHA-256 as well, so that one that ignores checksums still verifies what it stores.
 */
export class S3ObjectStore implements ObjectStore {
  readonly url: string;
  /** What was is only read. */
  readonly locks: ObjectLocks | undefined;
  readonly #location: S3Location;
  readonly #options: S3Options;
  readonly #closing = new AbortController();
  #session: Promise<S3Session> | null = null;
  readonly #past: Past | null;
  #verifiesChecksums = false;

  /** Nothing is loaded or sent before the first call. */
  constructor(location: S3Location, options: S3Options = {}) {
    this.#options = options;
    this.#location = location;
    this.url = formatS3Url(location);
    this.#past = location.at === null ? null : new Past(location.at, location.bucket);
    const run: Run = async (doing, key, callOptions, work) => await this.#run(doing, key, callOptions, work);
    this.locks = this.#past === null ? new S3Locks(location.bucket, this.#base, run) : undefined;
  }

  get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    return this.#run(`get ${key}`, key, options, async (call) => {
      const { sdk, client, abortSignal } = call;
      const command = new sdk.GetObjectCommand({ ...(await this.#source(call, key)), ChecksumMode: "ENABLED" });
      return readWhole(key, await client.send(command, { abortSignal }), options.maxBytes ?? defaultMaxBytes);
    });
  }

  async read(key: string, offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    checkOffset(key, offset);
    if (into.length === 0) {
      // HTTP knows no empty range.
      if (offset > (await this.stat(key, options)).size) throw outOfRange(key, offset, 0);
      return;
    }
    await this.#run(`read ${key}`, key, options, async (call) => {
      const { sdk, client, abortSignal } = call;
      const command = new sdk.GetObjectCommand({
        ...(await this.#source(call, key)),
        Range: `bytes=${offset}-${offset + into.length - 1}`,
      });
      await readRange(key, await client.send(command, { abortSignal }), offset, into);
    });
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<void> {
    this.#requirePresent(`put ${key}`);
    await this.#run(`put ${key}`, key, options, (call) => this.#put(call, { body, options }, this.#target(key)));
  }

  async putIfAbsent(key: string, body: Uint8Array, options: PutOptions = {}): Promise<void> {
    this.#requirePresent(`create ${key}`);
    await this.#run(`create ${key}`, key, options, async (call) => {
      try {
        await this.#put(call, { body, options }, { ...this.#target(key), IfNoneMatch: "*" });
      } catch (error) {
        throw await this.#whyNotCreated(call, key, this.#error(error, `create ${key}`));
      }
    });
  }

  stat(key: string, options: StatOptions = {}): Promise<ObjectStat> {
    return this.#run(`look at ${key}`, key, options, async (call) => {
      const { sdk, client, abortSignal } = call;
      const mode = options.checksum === true ? { ChecksumMode: "ENABLED" as const } : {};
      const head = await client.send(new sdk.HeadObjectCommand({ ...(await this.#source(call, key)), ...mode }), { abortSignal });
      const crc32 = parseCrc32(head.ChecksumCRC32);
      const stat = { key, size: head.ContentLength ?? 0, modified: head.LastModified ?? new Date(0) };
      return crc32 === null ? stat : { ...stat, crc32 };
    });
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectStat, void, undefined> {
    checkPrefix(prefix);
    yield* this.#past === null ? this.#listPresent(prefix, options) : this.#listPast(this.#past, prefix, options);
  }

  async *#listPresent(prefix: string, options: ListOptions): AsyncGenerator<ObjectStat, void, undefined> {
    let last = options.after ?? "";
    let more: string | undefined;
    do {
      const page = await this.#page(prefix, last, more, options);
      for (const object of page.objects) {
        if (object.key <= last) throw new StoreError("failed", `${this.url} does not list objects in order of their keys`);
        options.signal?.throwIfAborted();
        yield object;
        last = object.key;
      }
      more = page.more;
    } while (more !== undefined);
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    this.#requirePresent(`delete ${key}`);
    await this.#run(`delete ${key}`, key, options, async ({ sdk, client, abortSignal }) => {
      try {
        await client.send(new sdk.DeleteObjectCommand(this.#target(key)), { abortSignal });
      } catch (error) {
        if (this.#error(error, "delete").code !== "not-found") throw error;
      }
    });
  }

  /** Asks the store only where no answer of the last minute tells the time. */
  now(options: CallOptions = {}): Promise<Date> {
    return this.#run("ask the time", null, options, async ({ sdk, client, clock, abortSignal }) => {
      const known = clock.now();
      if (known !== null) return known;
      try {
        await client.send(new sdk.HeadObjectCommand(this.#target("time")), { abortSignal });
      } catch (error) {
        // Any answer tells the time: there need be no such object, nor permission to see it.
        if (clock.now() === null) throw error;
      }
      const told = clock.now();
      if (told === null) throw new StoreError("failed", `${this.url} does not tell the time in its answers`);
      return told;
    });
  }

  async close(): Promise<void> {
    this.#closing.abort(storeClosed());
    const session = await this.#session?.catch(() => null);
    session?.client.destroy();
  }

  #target(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#location.bucket, Key: this.#base + key };
  }

  /** What is read: the object, or a version of it. */
  async #source(call: Call, key: string): Promise<{ Bucket: string; Key: string; VersionId?: string }> {
    const target = this.#target(key);
    return this.#past === null ? target : { ...target, VersionId: (await this.#past.find(call, target.Key, key)).versionId };
  }

  async *#listPast(past: Past, prefix: string, options: ListOptions): AsyncGenerator<ObjectStat, void, undefined> {
    let marker: Marker | null = null;
    do {
      const from: Marker | null = marker;
      const page: PastPage = await this.#run(`list ${prefix}`, null, options, (call) => past.page(call, this.#base + prefix, from));
      for (const { key: whole, size, modified } of page.objects) {
        const key = whole.slice(this.#base.length);
        if (isKey(key) && key > (options.after ?? "")) yield { key, size, modified };
      }
      marker = page.next;
    } while (marker !== null);
  }

  /** What was cannot be changed. */
  #requirePresent(doing: string): void {
    if (this.#past === null) return;
    throw new StoreError("access-denied", `cannot ${doing}: ${this.url} shows what was there at a time, and is only read`, {
      hint: "leave at= out of the repository URL to change what is there now",
    });
  }

  /** What the keys of this store begin with in the bucket. */
  get #base(): string {
    return this.#location.prefix === "" ? "" : `${this.#location.prefix}/`;
  }

  async #put(
    { sdk, client, abortSignal }: Call,
    { body, options }: { readonly body: Uint8Array; readonly options: PutOptions },
    input: PutObjectCommandInput,
  ): Promise<void> {
    const ChecksumCRC32 = crc32Header(options.crc32 ?? (await crc32Of(body)));
    const contentHash = this.#verifiesChecksums ? "UNSIGNED-PAYLOAD" : await sha256Header(body);
    const command = new sdk.PutObjectCommand({ ...input, Body: body, ContentLength: body.length, ChecksumCRC32 });
    command.middlewareStack.add(
      (next) => (args) => {
        if (hasHeaders(args.request)) args.request.headers["x-amz-content-sha256"] = contentHash;
        return next(args);
      },
      { step: "build", name: "contentHash" },
    );
    const answer = await client.send(command, { abortSignal });
    if (answer.ChecksumCRC32 !== undefined && answer.ChecksumCRC32 !== ChecksumCRC32)
      throw new StoreError("checksum-mismatch", `the store says that it keeps something else of ${input.Key ?? ""} than it was sent`);
    this.#verifiesChecksums = answer.ChecksumCRC32 !== undefined;
  }

  /** A store may answer "conflict" to all but one of several creations in flight, or to all of them: the object itself tells which. */
  async #whyNotCreated(call: Call, key: string, error: StoreError): Promise<StoreError> {
    if (error.code === "already-exists") return alreadyExists(key);
    if (!(error.cause instanceof Error && error.cause.name === "ConditionalRequestConflict")) return error;
    try {
      await call.client.send(new call.sdk.HeadObjectCommand(this.#target(key)), { abortSignal: call.abortSignal });
      return alreadyExists(key);
    } catch {
      return error;
    }
  }

  #page(
    prefix: string,
    after: string,
    more: string | undefined,
    options: ListOptions,
  ): Promise<{ objects: ObjectStat[]; more: string | undefined }> {
    return this.#run(`list ${prefix}`, null, options, async ({ sdk, client, abortSignal }) => {
      const from = more === undefined ? (after === "" ? {} : { StartAfter: this.#base + after }) : { ContinuationToken: more };
      const size = options.pageSize === undefined ? {} : { MaxKeys: options.pageSize };
      const command = new sdk.ListObjectsV2Command({ Bucket: this.#location.bucket, Prefix: this.#base + prefix, ...from, ...size });
      const page = await client.send(command, { abortSignal });
      const objects = (page.Contents ?? []).map((object) => ({
        key: (object.Key ?? "").slice(this.#base.length),
        size: object.Size ?? 0,
        modified: object.LastModified ?? new Date(0),
      }));
      // Others may keep things in the bucket too, such as the "directories" of some browsers.
      const next = goesOn(page.IsTruncated, page.NextContinuationToken) ? page.NextContinuationToken : undefined;
      if (next !== undefined && next === more) throw new StoreError("failed", `the list of ${this.url} does not come to an end`);
      return { objects: objects.filter(({ key }) => isKey(key)), more: next };
    });
  }

  async #run<T>(doing: string, key: string | null, options: CallOptions, work: (call: Call) => Promise<T>): Promise<T> {
    if (key !== null) checkKey(key);
    options.signal?.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    try {
      const session = await (this.#session ??= openSession(this.#location, this.#options));
      const abortSignal = anySignal(options.signal, this.#closing.signal);
      abortSignal.throwIfAborted();
      return await work({ ...session, abortSignal });
    } catch (error) {
      options.signal?.throwIfAborted();
      this.#closing.signal.throwIfAborted();
      throw this.#error(error, doing);
    }
  }

  #error(thrown: unknown, doing: string): StoreError {
    return s3Error(thrown, { doing, bucket: this.#location.bucket, endpoint: this.#location.endpoint });
  }
}

function hasHeaders(request: unknown): request is { headers: Record<string, string> } {
  return typeof request === "object" && request !== null && "headers" in request && typeof request.headers === "object";
}
