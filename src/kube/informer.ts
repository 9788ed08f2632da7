import { setImmediate as nextTurn } from "node:timers/promises";
import { errorText } from "../lib/errors.ts";
import { type Logger, silentLogger } from "../lib/logger.ts";
import type { KubeClient } from "./client.ts";
import { type IndexFunction, type Lister, ObjectCache } from "./object-cache.ts";
import { type KubeObject, type ResourceKind, keyOf, resourceName } from "./object.ts";
import { Reflector, type ReflectorOptions } from "./reflector.ts";
import { StringPool } from "./string-pool.ts";

/** Handlers only put keys into queues: they are called one after the other while the watch waits. */
export interface Handler<T extends KubeObject> {
  readonly added?: (object: T) => void;
  /** Also for nothing new, at a resync: then both are the same object. */
  readonly updated?: (before: T, object: T) => void;
  /** `object` is the last that was seen. */
  readonly deleted?: (object: T) => void;
}

export interface InformerOptions<T extends KubeObject> extends ReflectorOptions {
  /** Takes off what need not be kept; default `dropManagedFields`. Name, namespace, UID and resourceVersion have to stay. */
  readonly transform?: (object: T) => T;
  readonly indices?: Readonly<Record<string, IndexFunction<T>>>;
  /** milliseconds after which every object is handed to `updated` again; default never */
  readonly resyncMs?: number;
  readonly logger?: Logger;
}

/** Objects without `metadata.managedFields`: often half of an object, and of use to the server alone. */
export function dropManagedFields<T extends KubeObject>(object: T): T {
  if (!("managedFields" in object.metadata)) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** Resynced objects between two turns of the event loop. */
const STEP = 500;

/** A copy of the cluster's objects of one kind that follows the cluster, and tells what changes. */
export class Informer<T extends KubeObject> {
  readonly kind: ResourceKind<T>;
  /** Resolves when the first list is complete and every handler was told of it. */
  readonly synced: Promise<void>;
  readonly #cache: ObjectCache<T>;
  readonly #strings = new StringPool();
  readonly #handlers = new Set<Handler<T>>();
  readonly #reflector: Reflector<T>;
  readonly #transform: (object: T) => T;
  readonly #resyncMs: number | undefined;
  readonly #logger: Logger;
  readonly #markSynced: () => void;
  #hasSynced = false;
  #problem: unknown = null;
  #listing: Set<string> | null = null;

  constructor(client: KubeClient, kind: ResourceKind<T>, options: InformerOptions<T> = {}) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.kind = kind;
    this.synced = promise;
    this.#markSynced = resolve;
    this.#cache = new ObjectCache(options.indices);
    this.#transform = options.transform ?? dropManagedFields;
    this.#resyncMs = options.resyncMs;
    this.#logger = (options.logger ?? silentLogger).child({ resource: resourceName(kind) });
    const mirror = {
      listing: () => void (this.#listing = new Set()),
      seen: (object: T) => this.#seen(object),
      listed: () => this.#listed(),
      removed: (object: T) => this.#removed(keyOf(object)),
      following: () => void (this.#problem = null),
      failed: (error: unknown, retryInMs: number) => this.#failed(error, retryInMs),
    };
    this.#reflector = new Reflector(client, kind, mirror, options);
  }

  /** What is known now. The objects are shared: nobody may change them. */
  get lister(): Lister<T> {
    return this.#cache;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Why the cluster cannot be followed at this moment; null while it can. */
  get problem(): unknown {
    return this.#problem;
  }

  /** Tells `handler` of every object there is, and of every change from then on. Returns the way to stop that. */
  subscribe(handler: Handler<T>): () => void {
    this.#handlers.add(handler);
    for (const object of this.#cache.list()) this.#call(() => handler.added?.(object));
    return () => void this.#handlers.delete(handler);
  }

  /** Follows the cluster until `signal` aborts; once only. */
  async run(signal: AbortSignal): Promise<void> {
    const resync = this.#resyncMs === undefined ? undefined : setInterval(() => void this.#resync(signal), this.#resyncMs);
    try {
      await this.#reflector.run(signal);
    } finally {
      clearInterval(resync);
    }
  }

  #seen(raw: T): void {
    const object = this.#strings.share(this.#transform(raw));
    const key = keyOf(object);
    this.#listing?.add(key);
    const known = this.#cache.get(key);
    if (known !== undefined && known.metadata.resourceVersion === object.metadata.resourceVersion) return;
    // Another object of the same name: who follows UIDs has to hear of the end of the first.
    if (known !== undefined && known.metadata.uid !== object.metadata.uid) this.#removed(key);
    const before = this.#cache.set(object);
    this.#tell((handler) => (before === undefined ? handler.added?.(object) : handler.updated?.(before, object)));
  }

  #removed(key: string): void {
    const before = this.#cache.delete(key);
    if (before !== undefined) this.#tell((handler) => handler.deleted?.(before));
  }

  #listed(): void {
    const seen = this.#listing ?? new Set();
    this.#listing = null;
    for (const key of [...this.#cache.keys()].filter((known) => !seen.has(known))) this.#removed(key);
    this.#problem = null;
    this.#hasSynced = true;
    this.#markSynced();
  }

  #failed(error: unknown, retryInMs: number): void {
    this.#listing = null;
    this.#problem = error;
    this.#logger.warn(
      { err: error, retryInMs: Math.round(retryInMs) },
      `the cluster's ${resourceName(this.kind)} cannot be followed: ${errorText(error)}`,
    );
  }

  async #resync(signal: AbortSignal): Promise<void> {
    const keys = [...this.#cache.keys()];
    for (const [place, key] of keys.entries()) {
      if (place % STEP === 0) await nextTurn();
      if (signal.aborted) return;
      const object = this.#cache.get(key);
      if (object !== undefined) this.#tell((handler) => handler.updated?.(object, object));
    }
  }

  #tell(call: (handler: Handler<T>) => void): void {
    for (const handler of this.#handlers) this.#call(() => call(handler));
  }

  #call(work: () => void): void {
    try {
      work();
    } catch (err) {
      this.#logger.error({ err }, `a handler of ${resourceName(this.kind)} failed: ${errorText(err)}`);
    }
  }
}
