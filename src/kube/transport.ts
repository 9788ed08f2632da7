import { createHash } from "node:crypto";
import * as http from "node:http";
import * as https from "node:https";
import { KubeError } from "./errors.ts";
import type { Access, Credentials, TlsMaterial } from "./credentials.ts";

export interface Exchange {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** path and query */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  readonly signal: AbortSignal;
}

/** milliseconds a connection may rest before it is closed; the API server closes its side after 90 s, which must not meet a request */
const REST = 30_000;

interface Agents {
  readonly material: string;
  readonly agent: https.Agent | http.Agent;
}

/** Sends requests over kept connections, as whom `credentials` say at that moment. */
export class Transport {
  readonly #credentials: Credentials;
  readonly #userAgent: string;
  #agents: Agents | null = null;

  constructor(credentials: Credentials, userAgent: string) {
    this.#credentials = credentials;
    this.#userAgent = userAgent;
  }

  /** The answer, its body still unread. Rejects with what Node gives where none comes. A 401 is tried once more with fresh credentials. */
  async send(exchange: Exchange): Promise<http.IncomingMessage> {
    const answer = await this.#sendOnce(exchange);
    if (answer.statusCode !== 401) return answer;
    this.#credentials.refresh();
    answer.resume();
    return await this.#sendOnce(exchange);
  }

  /** Closes the connections that are at rest. */
  close(): void {
    this.#retire();
  }

  async #sendOnce({ method, path, headers, body, signal }: Exchange): Promise<http.IncomingMessage> {
    const access = await this.#credentials.access();
    signal.throwIfAborted();
    const url = new URL(access.server.pathname.replace(/\/$/, "") + path, access.server);
    const options: https.RequestOptions = {
      method,
      signal,
      agent: access.proxy ?? this.#agentFor(access),
      headers: {
        accept: "application/json",
        "user-agent": this.#userAgent,
        ...access.headers,
        ...headers,
        ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
      },
    };
    return await new Promise((resolve, reject) => {
      const request = url.protocol === "http:" ? http.request(url, options) : https.request(url, options);
      request.on("response", resolve);
      request.on("error", reject);
      request.end(body);
    });
  }

  #agentFor({ server, tls }: Access): https.Agent | http.Agent {
    const material = digest(server, tls);
    if (this.#agents?.material === material) return this.#agents.agent;
    this.#retire();
    const options: https.AgentOptions = { ...defined(tls), keepAlive: true, keepAliveMsecs: REST, timeout: REST, scheduling: "lifo" };
    const agent = server.protocol === "http:" ? new http.Agent(options) : new https.Agent(options);
    this.#agents = { material, agent };
    return agent;
  }

  #retire(): void {
    const sockets = Object.values(this.#agents?.agent.freeSockets ?? {}).flatMap((free) => free ?? []);
    for (const socket of sockets) socket.destroy();
    this.#agents = null;
  }
}

/** The body as text. Rejects, and gives up the connection, where it is longer than `maxBytes`. */
export async function readText(answer: http.IncomingMessage, maxBytes: number): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > maxBytes) {
      answer.destroy();
      throw new KubeError("invalid", `the API server's answer is longer than ${maxBytes} bytes`, { hint: "ask for fewer objects at once" });
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function digest(server: URL, tls: TlsMaterial): string {
  return createHash("sha256")
    .update(JSON.stringify([server.origin, tls.ca, tls.cert, tls.key, tls.servername, tls.rejectUnauthorized]))
    .digest("hex");
}

function defined(tls: TlsMaterial): https.AgentOptions {
  return Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
}
