/** An event as it is written. */
export interface RecordedEvent {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly type: string;
  readonly reason: string;
  readonly action: string;
  readonly note: string;
  readonly regarding: { readonly kind: string; readonly name: string; readonly uid: string | undefined };
}

/** `count` 1: a new event. More: the event that is there has happened so many times. */
export interface PendingWrite {
  readonly event: RecordedEvent;
  readonly count: number;
}

interface Series {
  readonly event: RecordedEvent;
  count: number;
  lastAt: number;
  writtenAt: number;
}

interface Bucket {
  tokens: number;
  at: number;
}

/** milliseconds after which the same words begin a new series, as client-go has it */
const SERIES_ENDS = 6 * 60_000;
/** milliseconds between two writes of one series */
const WRITE_EVERY = 60_000;
/** Of one object: so many at once, then one in five minutes, as client-go has it. */
const BURST = 25;
const REFILL_MS = 300_000;
/** Series and objects that are remembered; the least recently used go first. */
const MAX_KNOWN = 4096;

/** Decides which events are worth a write. */
export class EventSeries {
  readonly #series = new Map<string, Series>();
  readonly #buckets = new Map<string, Bucket>();

  /** The write for one more event at `now` (milliseconds); `quiet` where it is counted and written later, `too-many` where it is not. */
  next(event: RecordedEvent, now: number): PendingWrite | "quiet" | "too-many" {
    const { regarding, type, reason, action, note } = event;
    const object = JSON.stringify([regarding.kind, event.metadata.namespace, regarding.name, regarding.uid]);
    const key = JSON.stringify([object, type, reason, action, note]);
    const series = this.#series.get(key);
    if (series !== undefined && now - series.lastAt < SERIES_ENDS) {
      series.count += 1;
      series.lastAt = now;
      touch(this.#series, key, series);
      // The second at once: that it happens again is news.
      if (series.count > 2 && now - series.writtenAt < WRITE_EVERY) return "quiet";
      series.writtenAt = now;
      return { event: series.event, count: series.count };
    }
    if (!this.#takeToken(object, now)) return "too-many";
    touch(this.#series, key, { event, count: 1, lastAt: now, writtenAt: now });
    return { event, count: 1 };
  }

  #takeToken(object: string, now: number): boolean {
    const { tokens, at } = this.#buckets.get(object) ?? { tokens: BURST, at: now };
    const filled = Math.min(BURST, tokens + (now - at) / REFILL_MS);
    const has = filled >= 1;
    touch(this.#buckets, object, { tokens: has ? filled - 1 : filled, at: now });
    return has;
  }
}

function touch<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > MAX_KNOWN && oldest !== undefined) map.delete(oldest);
}
