import { type Clock, systemClock } from "../lib/clock.ts";
import { backoffMs } from "./backoff.ts";
import type { KubeClient, Selection } from "./client.ts";
import { isKubeError } from "./errors.ts";
import type { KubeObject, ResourceKind } from "./object.ts";
import type { WatchEvent } from "./watch-stream.ts";

/** Who is told what a reflector sees. */
export interface Mirror<T extends KubeObject> {
  /** A full list begins: what is not seen before `listed` is gone. */
  listing(): void;
  seen(object: T): void;
  listed(): void;
  removed(object: T): void;
  /** A watch was opened: the cluster is followed. */
  following(): void;
  /** The cluster does not answer as it should; it is tried again in `retryInMs`. */
  failed(error: unknown, retryInMs: number): void;
}

export interface ReflectorOptions extends Selection {
  /** objects to a page; default 500 */
  readonly pageSize?: number;
  /** seconds after which the server ends a watch, give or take a third; default 300 */
  readonly watchSeconds?: number;
  /** milliseconds; see `WatchOptions` */
  readonly silenceMs?: number;
  /** milliseconds; default 30,000 */
  readonly maxBackoffMs?: number;
}

/** A watch that ends sooner than this without a word is a failure too, or a server that closes each at once would be asked without pause. */
const SHORT = 1000;
/** A server that forgets within this what it has just said would be asked for everything without pause. */
const JUST_LISTED = 10_000;
/** Bookmarks come once a minute. */
const SILENCE = 150_000;

/** Lists a kind and watches it from there on, for as long as it is let; a broken watch goes on where it broke, and lists anew where it cannot. */
export class Reflector<T extends KubeObject> {
  readonly #client: KubeClient;
  readonly #kind: ResourceKind<T>;
  readonly #options: ReflectorOptions;
  readonly #mirror: Mirror<T>;
  readonly #clock: Clock;
  /** Where the next watch goes on; null before the first list and when the server has forgotten. */
  #version: string | null = null;
  #failures = 0;
  #listedAt = Number.NEGATIVE_INFINITY;

  constructor(client: KubeClient, kind: ResourceKind<T>, mirror: Mirror<T>, options: ReflectorOptions = {}) {
    this.#client = client;
    this.#kind = kind;
    this.#mirror = mirror;
    this.#options = options;
    this.#clock = systemClock;
  }

  /** Returns when `signal` aborts, and never before. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === null) await this.#list(signal);
        else await this.#watch(this.#version, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        if (isKubeError(thrown, "gone")) this.#version = null;
        await this.#rest(thrown, signal);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { namespace, labelSelector, fieldSelector, pageSize = 500 } = this.#options;
    this.#mirror.listing();
    let version = "";
    for await (const page of this.#client.list(this.#kind, { namespace, labelSelector, fieldSelector, limit: pageSize, signal })) {
      for (const item of page.items) this.#mirror.seen(item);
      version = page.resourceVersion;
    }
    this.#mirror.listed();
    this.#version = version;
    this.#listedAt = this.#clock.monotonic();
  }

  async #watch(from: string, signal: AbortSignal): Promise<void> {
    const begun = this.#clock.monotonic();
    const took = (): number => this.#clock.monotonic() - begun;
    let heard = false;
    try {
      for await (const event of this.#events(from, signal)) {
        heard = true;
        this.#follow(event);
      }
    } catch (thrown) {
      // A server whose data was rolled back to before our version lets us wait for that version without a word: only a list finds out.
      if (!heard && took() >= (this.#options.silenceMs ?? SILENCE)) this.#version = null;
      throw thrown;
    }
    if (heard || took() >= SHORT) this.#failures = 0;
    else await this.#rest(new Error("the API server ended a watch at once"), signal);
  }

  #events(from: string, signal: AbortSignal): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const { namespace, labelSelector, fieldSelector, watchSeconds = 300, silenceMs = SILENCE } = this.#options;
    // Not all at the same moment: watches that began together would end together.
    const timeoutSeconds = Math.max(1, Math.round(watchSeconds * (2 / 3 + (Math.random() * 2) / 3)));
    const opened = (): void => this.#mirror.following();
    const limits = { resourceVersion: from, timeoutSeconds, silenceMs, signal, opened };
    return this.#client.watch(this.#kind, { namespace, labelSelector, fieldSelector, ...limits });
  }

  #follow({ type, object }: WatchEvent<T>): void {
    this.#failures = 0;
    this.#version = object.metadata.resourceVersion ?? this.#version;
    if (type === "DELETED") this.#mirror.removed(object);
    else if (type !== "BOOKMARK") this.#mirror.seen(object);
  }

  async #rest(thrown: unknown, signal: AbortSignal): Promise<void> {
    this.#failures += 1;
    // What the server has forgotten is listed again at once, unless it was only just listed.
    const atOnce = isKubeError(thrown, "gone") && this.#clock.monotonic() - this.#listedAt > JUST_LISTED;
    const ms = atOnce ? 0 : backoffMs(this.#failures, { baseMs: 500, maxMs: this.#options.maxBackoffMs ?? 30_000 });
    this.#mirror.failed(thrown, ms);
    await this.#clock.sleep(ms, signal).catch(() => undefined);
  }
}
