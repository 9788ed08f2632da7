import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

import { answerPlace, bodyPlace, ContractError } from "../../api/index.ts";
import { errorText } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { type SealingKey, SealBrokenError } from "../../lib/sealed-message.ts";
import { OrderError } from "./errors.ts";

const MAX_BODY = 8192;
const MAX_CONNECTIONS = 64;
const HEADERS_MS = 10_000;
const REQUEST_MS = 15_000;

/** What a route answers to a request that is whole, authorized and unsealed. Throws `Refusal`, or `ContractError` for a body that is not as it must be. */
export type Route = (question: Question) => Promise<object>;

export interface Question {
  readonly query: URLSearchParams;
  /** the rest of the path after the route's own, decoded; empty where there is none */
  readonly rest: string;
  /** empty for a GET */
  readonly body: Buffer;
  /** aborts when nobody waits for the answer any more */
  readonly signal: AbortSignal;
}

/** A request that is refused, with what the controller is told. */
export class Refusal extends Error {
  readonly status: 400 | 404 | 409;

  constructor(status: 400 | 404 | 409, message: string) {
    super(message);
    this.status = status;
  }
}

export interface ChannelServerOptions {
  readonly port: number;
  /** the pod's own address; null: all */
  readonly host: string | null;
  readonly key: SealingKey;
  readonly log: Logger;
  /** `GET /progress`; `GET /captures/` ends in a slash and takes what comes after it */
  readonly routes: Readonly<Record<string, Route>>;
}

/** The agent's end of the channel. Who cannot show the key's proof learns that something lives there, and nothing else. */
export class ChannelServer {
  readonly #options: ChannelServerOptions;
  readonly #server: Server;
  #lastRequest = performance.now();

  private constructor(options: ChannelServerOptions) {
    this.#options = options;
    const limits = { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, keepAliveTimeout: 1000, maxHeaderSize: 8192 };
    this.#server = createServer(limits, (request, response) => void this.#answer(request, response));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Rejects `no-channel` where the port cannot be had. */
  static async open(options: ChannelServerOptions): Promise<ChannelServer> {
    const channel = new ChannelServer(options);
    await new Promise<void>((resolve, reject) => {
      channel.#server.once("error", (cause) => {
        reject(new OrderError("no-channel", `The agent cannot listen on port ${options.port}: ${errorText(cause)}`, { cause }));
      });
      channel.#server.listen({ port: options.port, ...(options.host === null ? {} : { host: options.host }) }, resolve);
    });
    channel.#server.on("error", (err) => options.log.warn({ err }, "The channel had an error"));
    return channel;
  }

  /** ms since the last authorized request, or since the start */
  get idle(): number {
    return performance.now() - this.#lastRequest;
  }

  /** Lets answers that are under way go out, for a second at most. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const timer = setTimeout(() => this.#server.closeAllConnections(), 1000);
    this.#server.closeIdleConnections();
    await closed;
    clearTimeout(timer);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = request.url ?? "";
    if (request.method === "GET" && target === "/healthz") return end(response, 200, Buffer.from("ok"));
    // Also for paths that do not exist: what there is, is told to nobody else.
    if (!this.#options.key.authorizes(request.headers.authorization)) return end(response, 401, Buffer.alloc(0));
    this.#lastRequest = performance.now();
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const [status, text] = await this.#reply(request, target, gone.signal).catch((thrown: unknown) => this.#refused(thrown, target));
    this.#lastRequest = performance.now();
    end(response, status, this.#options.key.seal(Buffer.from(text), answerPlace(target)));
  }

  async #reply(request: IncomingMessage, target: string, signal: AbortSignal): Promise<[number, string]> {
    const [path = "", ...query] = target.split("?");
    const found = this.#find(`${request.method ?? ""} ${path}`);
    if (found === null) throw new Refusal(404, "The agent has no such thing");
    const sealed = await readBody(request);
    const body = request.method === "POST" ? this.#options.key.open(sealed, bodyPlace(target)) : Buffer.alloc(0);
    return [200, JSON.stringify(await found.route({ query: new URLSearchParams(query.join("?")), rest: found.rest, body, signal }))];
  }

  #find(asked: string): { readonly route: Route; readonly rest: string } | null {
    const { routes } = this.#options;
    const exact = Object.hasOwn(routes, asked) ? routes[asked] : undefined;
    if (exact !== undefined) return { route: exact, rest: "" };
    const found = Object.entries(routes).find(([name]) => name.endsWith("/") && asked.startsWith(name));
    return found === undefined ? null : { route: found[1], rest: decoded(asked.slice(found[0].length)) };
  }

  #refused(thrown: unknown, target: string): [number, string] {
    if (thrown instanceof Refusal) return [thrown.status, thrown.message];
    if (thrown instanceof SealBrokenError || thrown instanceof ContractError) return [400, thrown.message];
    this.#options.log.warn({ err: thrown, path: target.split("?")[0] }, "A request could not be answered");
    return [500, errorText(thrown)];
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Refusal(400, "The path is not well-formed");
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY) throw new Refusal(400, `The body has more than ${MAX_BODY} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function end(response: ServerResponse, status: number, body: Buffer): void {
  response.writeHead(status, {
    "content-type": "application/octet-stream",
    "content-length": body.length,
    "cache-control": "no-store",
    connection: "close",
  });
  response.end(body);
}
