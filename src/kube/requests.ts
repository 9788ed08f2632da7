import type { IncomingMessage } from "node:http";
import { anySignal, withTimeout } from "../lib/abort.ts";
import { systemClock } from "../lib/clock.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { networkError, refusalError } from "./answer-error.ts";
import type { Credentials } from "./credentials.ts";
import { KubeError, isKubeError } from "./errors.ts";
import { type Lane, RateLimiter, type RateLimits } from "./rate-limiter.ts";
import { type Exchange, Transport, readText } from "./transport.ts";

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** milliseconds the server has, from when the request's turn has come; default that of the client */
  readonly timeoutMs?: number;
  /** Default `normal`; mass writes go by `low`. */
  readonly lane?: Lane;
}

export interface RequestOptions extends Partial<RateLimits> {
  /** milliseconds; default 30,000 */
  readonly timeoutMs?: number;
  /** Requests of the normal lane on their way at once; default 32. */
  readonly concurrency?: number;
  readonly userAgent?: string;
}

export interface Call extends Omit<Exchange, "signal"> {
  /** Completes "cannot …". */
  readonly doing: string;
  /** of the answer; default 64 MiB */
  readonly maxBytes?: number;
}

/** Requests that were answered alike, since the start; for metrics. */
export interface Answers {
  readonly verb: Exchange["method"];
  /** HTTP status; null: there was no answer */
  readonly code: number | null;
  readonly count: number;
}

const MAX_ANSWER = 64 * 1024 * 1024;
/** Requests of the urgent and of the low lane on their way at once, each. */
const FEW = 4;

/** Requests with all that is around them: their turn, their time, what the server asks to wait, and errors in the words of this module. */
export class Requests {
  readonly #transport: Transport;
  readonly #limiter: RateLimiter;
  readonly #slots: Readonly<Record<Lane, Semaphore>>;
  readonly #timeoutMs: number;
  readonly #answers = new Map<string, Answers>();

  constructor(credentials: Credentials, options: RequestOptions = {}) {
    const { timeoutMs = 30_000, concurrency = 32, qps = 50, burst = 100, userAgent = "thinstream" } = options;
    this.#transport = new Transport(credentials, userAgent);
    this.#limiter = new RateLimiter({ qps, burst });
    this.#slots = {
      urgent: new Semaphore(FEW),
      normal: new Semaphore(concurrency),
      low: new Semaphore(Math.min(FEW, concurrency)),
    };
    this.#timeoutMs = timeoutMs;
  }

  /** The body of a successful answer. Throws `KubeError`, or `signal.reason`. */
  async text(call: Call, options: CallOptions): Promise<string> {
    const { signal, lane = "normal", timeoutMs = this.#timeoutMs } = options;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      try {
        return await this.#slots[lane].run(() => this.#attempt(call, { signal, lane, timeoutMs }), signal);
      } catch (thrown) {
        signal?.throwIfAborted();
        const wait = waitOf(thrown);
        if (wait === undefined || performance.now() + wait > deadline) throw networkError(call.doing, thrown);
        await systemClock.sleep(wait, signal);
      }
    }
  }

  /** A successful answer whose body is still to be read, for as long as `signal` lets it. Takes no slot: it may last. */
  async stream(call: Call, options: CallOptions): Promise<IncomingMessage> {
    const { signal, lane = "normal", timeoutMs = this.#timeoutMs } = options;
    await this.#limiter.take(lane, signal);
    const late = new AbortController();
    const during = anySignal(late.signal, signal);
    try {
      return await withTimeout({ ms: timeoutMs, what: "the API server's answer", signal }, async () =>
        accepted(call, await this.#send({ ...call, signal: during })),
      );
    } catch (thrown) {
      late.abort(thrown);
      signal?.throwIfAborted();
      throw networkError(call.doing, thrown);
    }
  }

  /** What the server answered so far, by verb and status. A retry counts again. */
  get answers(): readonly Answers[] {
    return [...this.#answers.values()];
  }

  close(): void {
    this.#transport.close();
  }

  async #send(exchange: Exchange): Promise<IncomingMessage> {
    let code: number | null = null;
    try {
      const answer = await this.#transport.send(exchange);
      code = answer.statusCode ?? null;
      return answer;
    } finally {
      const { method: verb } = exchange;
      const key = `${verb} ${code}`;
      this.#answers.set(key, { verb, code, count: (this.#answers.get(key)?.count ?? 0) + 1 });
    }
  }

  async #attempt(
    call: Call,
    { signal, lane, timeoutMs }: { signal: AbortSignal | undefined; lane: Lane; timeoutMs: number },
  ): Promise<string> {
    await this.#limiter.take(lane, signal);
    return await withTimeout({ ms: timeoutMs, what: "the API server's answer", signal }, async (inTime) => {
      const answer = await this.#send({ ...call, signal: inTime });
      return await readText(await accepted(call, answer), call.maxBytes ?? MAX_ANSWER);
    });
  }
}

/** A body as JSON; a success that is none is a proxy's work. */
export function parseAnswer(doing: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new KubeError("unavailable", `cannot ${doing}: what answered is no API server: its answer is no JSON`, { cause });
  }
}

async function accepted(call: Call, answer: IncomingMessage): Promise<IncomingMessage> {
  const status = answer.statusCode ?? 0;
  if (status >= 200 && status < 300) return answer;
  const body = await readText(answer, MAX_ANSWER);
  throw refusalError(call.doing, { status, body, retryAfter: answer.headers["retry-after"] });
}

/** A server that says when to come back has not done anything yet. */
function waitOf(thrown: unknown): number | undefined {
  return isKubeError(thrown, "too-many-requests", "unavailable") ? thrown.retryAfterMs : undefined;
}
