import { randomBytes } from "node:crypto";
import { systemClock } from "../lib/clock.ts";
import { errorText } from "../lib/errors.ts";
import { type Logger, silentLogger } from "../lib/logger.ts";
import type { KubeClient } from "./client.ts";
import { isKubeError } from "./errors.ts";
import { EventSeries, type PendingWrite } from "./event-series.ts";
import { microTime } from "./lease.ts";
import type { KubeObject, ResourceKind } from "./object.ts";

export interface EventNote {
  readonly type: "Normal" | "Warning";
  /** Why, as a word for machines: `BackupFailed`. */
  readonly reason: string;
  /** What was being done, as a word for machines: `Backup`. */
  readonly action: string;
  /** What happened, for people; cut to 1,024 bytes. */
  readonly note: string;
}

export interface EventRecorderOptions {
  /** Who reports: `thinstream.dev/controller`. */
  readonly controller: string;
  /** Which one of those: the pod's name. */
  readonly instance: string;
  readonly logger?: Logger;
}

const events: ResourceKind = { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event", namespaced: true };

const MAX_NOTE = 1024;
/** Writes that wait; what comes beyond is dropped. */
const MAX_WAITING = 1000;
const TRIES = 3;

/**
 * Says on an object what happened to it (`kubectl describe` shows it). What is said again within minutes becomes a series; who says too much
 * of one object is not heard for a while. Nothing here ever fails its caller: events are a courtesy.
 */
export class EventRecorder {
  readonly #client: KubeClient;
  readonly #options: EventRecorderOptions;
  readonly #logger: Logger;
  readonly #series = new EventSeries();
  readonly #waiting: PendingWrite[] = [];
  readonly #aborter = new AbortController();
  #writing: Promise<void> | null = null;
  #dropped = 0;

  constructor(client: KubeClient, options: EventRecorderOptions) {
    this.#client = client;
    this.#options = options;
    this.#logger = (options.logger ?? silentLogger).child({ part: "events" });
  }

  /** Events that were not written: too many of one object, too many at once, or refused by the server. */
  get dropped(): number {
    return this.#dropped;
  }

  record(regarding: KubeObject, { type, reason, action, note }: EventNote): void {
    const { apiVersion, kind, metadata } = regarding;
    const { name, uid, resourceVersion } = metadata;
    // Events of what has no namespace live in `default`: the server insists.
    const namespace = metadata.namespace ?? "default";
    const now = microTime(systemClock.now());
    const event = {
      // Cut where a name may end.
      metadata: { name: `${name.slice(0, 230).replace(/[.-]+$/, "")}.${randomBytes(8).toString("hex")}`, namespace },
      eventTime: now,
      reportingController: this.#options.controller,
      reportingInstance: this.#options.instance.slice(0, 128),
      type,
      reason: reason.slice(0, 128),
      action: action.slice(0, 128),
      note: cut(note),
      regarding: { apiVersion, kind, name, uid, resourceVersion, ...(metadata.namespace === undefined ? {} : { namespace }) },
    };
    const write = this.#series.next(event, performance.now());
    if (write === "quiet") return;
    if (write === "too-many" || this.#waiting.length >= MAX_WAITING) return this.#drop(1);
    this.#waiting.push(write);
    this.#writing ??= this.#writeAll();
  }

  /** Waits until everything is written; gives up, and drops the rest, after `ms`. */
  async flush(ms: number = 5000): Promise<void> {
    const timer = setTimeout(() => this.#aborter.abort(new Error("no time is left for events")), ms);
    await this.#writing;
    clearTimeout(timer);
  }

  /** Never rejects. */
  async #writeAll(): Promise<void> {
    for (let write = this.#waiting.shift(); write !== undefined; write = this.#waiting.shift()) {
      try {
        await this.#write(write);
      } catch (err) {
        this.#drop(1);
        this.#logger.warn({ err }, `an event was not written: ${errorText(err)}`);
      }
    }
    this.#writing = null;
  }

  async #write({ event, count }: PendingWrite, tries: number = 1): Promise<void> {
    const { namespace, name } = event.metadata;
    const options = { signal: this.#aborter.signal, lane: "low" as const, timeoutMs: 10_000 };
    try {
      if (count === 1) await this.#client.create(events, event, options);
      else
        await this.#client.patch(
          events,
          { namespace, name },
          { series: { count, lastObservedTime: microTime(systemClock.now()) } },
          options,
        );
    } catch (thrown) {
      if (count > 1 && isKubeError(thrown, "not-found")) return; // The server keeps events for an hour; the series went with it.
      if (!isKubeError(thrown, "unavailable", "too-many-requests") || tries >= TRIES) throw thrown;
      await systemClock.sleep(500 * tries, this.#aborter.signal);
      await this.#write({ event, count }, tries + 1);
    }
  }

  #drop(count: number): void {
    this.#dropped += count;
  }
}

/** The text in at most 1,024 bytes of UTF-8, at a character's edge. */
function cut(note: string): string {
  const bytes = Buffer.from(note);
  if (bytes.length <= MAX_NOTE) return note;
  const decoder = new TextDecoder("utf-8");
  // `stream` holds back a character that is cut in two.
  return `${decoder.decode(bytes.subarray(0, MAX_NOTE - 3), { stream: true })}…`;
}
