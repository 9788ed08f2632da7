import { randomBytes } from "node:crypto";
import { request as httpRequest, type IncomingMessage } from "node:http";

import { errorText, type ErrorDetails, ThinstreamError } from "../../lib/errors.ts";
import type { SealingKey } from "../../lib/sealed-message.ts";
import {
  type AgentProgress,
  answerPlace,
  bodyPlace,
  type CapturesMessage,
  type FrozenMessage,
  parseCapture,
  parseCaptures,
  parseEmpty,
  parsePointsPage,
  parseProgress,
  type Phase,
  type PointsPage,
  WAIT_MS,
} from "../../api/index.ts";

/**
 * `unreachable`: nobody answers there; `timeout`: not in time; `refused`: the agent does not know this key; `not-found`: it has no such thing;
 * `conflict`: it does not wait for this (any more); `bad-answer`: what answered is not the agent, or of another release; `failed`: the agent said
 * that it cannot.
 */
export type ChannelErrorCode = "unreachable" | "timeout" | "refused" | "not-found" | "conflict" | "bad-answer" | "failed";

/** An agent could not be asked or told. */
export class ChannelError extends ThinstreamError<ChannelErrorCode> {
  override readonly name = "ChannelError";

  constructor(code: ChannelErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}

/** Where an agent is. */
export interface AgentAddress {
  /** the pod's IP */
  readonly host: string;
  readonly port: number;
  readonly key: SealingKey;
}

const ANSWER_MS = 15_000;
const MAX_ANSWER = 64 * 2 ** 20;
/** More of a captured file than this is not taken into memory. */
const MAX_CAPTURE = 512 * 2 ** 20;

const refusals: Readonly<Record<number, ChannelErrorCode>> = { 401: "refused", 404: "not-found", 409: "conflict" };

/** The controller's end of the channel to one agent. Every method rejects with a `ChannelError`, or with the reason of its signal. */
export class AgentChannel {
  readonly #address: AgentAddress;

  constructor(address: AgentAddress) {
    this.#address = address;
  }

  async progress(signal: AbortSignal): Promise<AgentProgress> {
    return await this.#get("/progress", parseProgress, { signal });
  }

  /** The progress once the phase is another than `seen`, or after 20 s. */
  async wait(seen: Phase, signal: AbortSignal): Promise<AgentProgress> {
    return await this.#get(`/wait?seen=${seen}`, parseProgress, { signal, ms: WAIT_MS + ANSWER_MS });
  }

  /** Answers phase `Freeze`; `until` by this machine's clock. `conflict`: the agent no longer waits, and who froze must thaw. */
  async frozen(
    answer: { readonly ok: true; readonly until: Date } | { readonly ok: false; readonly message: string },
    signal: AbortSignal,
  ): Promise<void> {
    const message: FrozenMessage = answer.ok
      ? { ok: true, remainingMs: Math.min(3_600_000, Math.max(0, answer.until.getTime() - Date.now())) }
      : { ok: false, message: answer.message.slice(0, 2048) };
    await this.#post("/frozen", message, signal);
  }

  /** A page of the catalog from a place on, empty where the agent has not read so far; its `next` is the place of the page after it. */
  async points(after: number, signal: AbortSignal): Promise<PointsPage> {
    return await this.#get(`/points?after=${after}`, parsePointsPage, { signal });
  }

  async captures(signal: AbortSignal): Promise<CapturesMessage> {
    return await this.#get("/captures", parseCaptures, { signal });
  }

  /** One captured file, whole. */
  async capture(name: string, signal: AbortSignal): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let length = 0;
    for (let next: number | null = 0; next !== null;) {
      const piece: { readonly base64: string; readonly next: number | null } = await this.#get(
        `/captures/${encodeURIComponent(name)}?piece=${next}`,
        parseCapture,
        { signal },
      );
      pieces.push(Buffer.from(piece.base64, "base64"));
      length += pieces.at(-1)?.length ?? 0;
      if (length > MAX_CAPTURE || (piece.next !== null && piece.next <= next)) throw badAnswer("the captured file has no end");
      next = piece.next;
    }
    return Buffer.concat(pieces);
  }

  /** Everything was fetched: the agent may end. */
  async done(signal: AbortSignal): Promise<void> {
    await this.#post("/done", {}, signal);
  }

  async #get<T>(
    path: string,
    parse: (bytes: Uint8Array) => T,
    { signal, ms = ANSWER_MS }: { signal: AbortSignal; ms?: number },
  ): Promise<T> {
    return await this.#ask("GET", path, { parse, signal, ms });
  }

  async #post(path: string, message: object, signal: AbortSignal): Promise<void> {
    await this.#ask("POST", path, { parse: parseEmpty, signal, ms: ANSWER_MS, message });
  }

  async #ask<T>(method: "GET" | "POST", path: string, exchange: Exchange<T>): Promise<T> {
    const { key } = this.#address;
    // With a number of its own no old answer passes for one to this request.
    const place = `${path}${path.includes("?") ? "&" : "?"}n=${randomBytes(12).toString("hex")}`;
    const body = exchange.message === undefined ? null : key.seal(Buffer.from(JSON.stringify(exchange.message)), bodyPlace(place));
    const { status, bytes } = await this.#send({ method, path: place, body }, exchange);
    if (status === 401) throw new ChannelError("refused", `The agent at ${this.#where} does not take this key`);
    let answer: Buffer;
    try {
      answer = key.open(bytes, answerPlace(place));
    } catch (cause) {
      throw badAnswer(`what answers at ${this.#where} does not have the key of this run`, cause);
    }
    if (status !== 200)
      throw new ChannelError(
        refusals[status] ?? "failed",
        `The agent at ${this.#where} answered ${path.split("?")[0]} with ${status}: ${answer.toString("utf8").slice(0, 1024)}`,
      );
    try {
      return exchange.parse(answer);
    } catch (cause) {
      throw badAnswer(errorText(cause), cause);
    }
  }

  get #where(): string {
    return `${this.#address.host}:${this.#address.port}`;
  }

  #send(
    request: { method: string; path: string; body: Buffer | null },
    { signal, ms }: { readonly signal: AbortSignal; readonly ms: number },
  ): Promise<Answer> {
    const { host, port, key } = this.#address;
    signal.throwIfAborted();
    const limit = AbortSignal.timeout(ms);
    const headers = { authorization: key.authorization, ...(request.body === null ? {} : { "content-length": request.body.length }) };
    const options = {
      host,
      port,
      method: request.method,
      path: request.path,
      headers,
      agent: false,
      signal: AbortSignal.any([signal, limit]),
    };
    return new Promise<Answer>((resolve, reject) => {
      const sent = httpRequest(options, (response) => void read(response).then(resolve, reject));
      sent.once("error", reject);
      sent.end(request.body ?? undefined);
    }).catch((cause: unknown) => {
      signal.throwIfAborted();
      if (limit.aborted) throw new ChannelError("timeout", `The agent at ${this.#where} did not answer within ${ms / 1000} s`, { cause });
      if (cause instanceof ChannelError) throw cause;
      throw new ChannelError("unreachable", `The agent at ${this.#where} cannot be reached: ${errorText(cause)}`, { cause });
    });
  }
}

interface Exchange<T> {
  readonly parse: (bytes: Uint8Array) => T;
  readonly signal: AbortSignal;
  readonly ms: number;
  readonly message?: object;
}

interface Answer {
  readonly status: number;
  readonly bytes: Buffer;
}

async function read(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_ANSWER) {
      response.destroy();
      throw badAnswer(`an answer has more than ${MAX_ANSWER} bytes`);
    }
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, bytes: Buffer.concat(chunks) };
}

function badAnswer(what: string, cause?: unknown): ChannelError {
  return new ChannelError("bad-answer", `The agent's answer is not to be used: ${what}`, cause === undefined ? {} : { cause });
}
