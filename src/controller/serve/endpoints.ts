import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import { errorText } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { EndpointError } from "./errors.ts";
import type { Standing } from "./standing.ts";

const MAX_CONNECTIONS = 64;
const HEADERS_MS = 5_000;
const REQUEST_MS = 10_000;
/** milliseconds that answers under way are given to go out */
const CLOSE_MS = 1_000;
const PLAIN = "text/plain; charset=utf-8";

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly type?: string;
}

/** `/healthz`, `/readyz` and `/metrics`, for the kubelet and Prometheus. It takes no bodies and tells no secrets; a network policy says who may ask. */
export class Endpoints {
  readonly #server: Server;
  readonly #standing: Standing;
  readonly #log: Logger;

  private constructor(standing: Standing, log: Logger) {
    this.#standing = standing;
    this.#log = log;
    const limits = { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, keepAliveTimeout: 5_000, maxHeaderSize: 8192 };
    this.#server = createServer(limits, (request, response) => void this.#answer(request, response));
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.maxRequestsPerSocket = 1000;
    // Nobody gets a "continue": a body is refused before it is sent.
    this.#server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response));
  }

  /** Rejects with `EndpointError` where the port cannot be had. */
  static async open(port: number, standing: Standing, log: Logger): Promise<Endpoints> {
    const endpoints = new Endpoints(standing, log);
    await new Promise<void>((resolve, reject) => {
      endpoints.#server.once("error", (cause) => {
        const hint = "set metricsPort in the controller's configuration to a port that is free";
        reject(new EndpointError(`the controller cannot listen on port ${port}: ${errorText(cause)}`, { cause, hint }));
      });
      endpoints.#server.listen({ port }, resolve);
    });
    endpoints.#server.on("error", (err) => log.warn({ err }, `the controller's endpoints had an error: ${errorText(err)}`));
    return endpoints;
  }

  /** Where it listens: a port of the system's choice where 0 was asked for. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Takes no more questions; answers under way go out. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const timer = setTimeout(() => this.#server.closeAllConnections(), CLOSE_MS);
    this.#server.closeIdleConnections();
    await closed;
    clearTimeout(timer);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const refusal = refusalOf(request);
    const { status, text, type = PLAIN } = refusal ?? (await this.#reply(request.url?.split("?")[0] ?? ""));
    const headers = { "content-type": type, "content-length": Buffer.byteLength(text), "cache-control": "no-store" };
    // What was refused may have a body on its way: the connection is of no use any more.
    response.writeHead(status, refusal === null ? headers : { ...headers, connection: "close", allow: "GET, HEAD" });
    response.end(request.method === "HEAD" ? undefined : text);
  }

  async #reply(path: string): Promise<Answer> {
    if (path === "/healthz") return verdict(this.#standing.sickness);
    if (path === "/readyz") return verdict(this.#standing.unreadiness);
    if (path !== "/metrics") return { status: 404, text: "there are /healthz, /readyz and /metrics\n" };
    try {
      return { status: 200, text: await this.#standing.metrics.text(), type: this.#standing.metrics.contentType };
    } catch (err) {
      this.#log.error({ err }, `the metrics cannot be told: ${errorText(err)}`);
      return { status: 500, text: "the metrics cannot be told: see the controller's log\n" };
    }
  }
}

function verdict(problem: string | null): Answer {
  return problem === null ? { status: 200, text: "ok\n" } : { status: 503, text: `${problem}\n` };
}

function refusalOf({ method, headers }: IncomingMessage): Answer | null {
  if (method !== "GET" && method !== "HEAD") return { status: 405, text: "only GET and HEAD\n" };
  const hasBody = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) !== 0;
  return hasBody ? { status: 413, text: "no body is taken\n" } : null;
}
