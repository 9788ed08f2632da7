import { once } from "node:events";
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http";

import { Rng } from "../../soak/rng.ts";
import { listen } from "./damaging-proxy.ts";

/** What goes wrong between a client and an S3 server. */
export type Ailment = "internal-error" | "slow-down" | "reset-before" | "reset-after" | "cut-answer" | "silence" | "stale-list";

const AILMENTS: readonly Ailment[] = ["internal-error", "slow-down", "reset-before", "reset-after", "cut-answer", "silence", "stale-list"];

/** An HTTP proxy in front of an S3 server through which a share of the requests goes wrong, the same way for the same seed and order. */
export interface FaultProxy {
  readonly endpoint: string;
  /** share of the requests, 0 to 1 */
  share: number;
  /** how often each thing went wrong */
  readonly ailed: Readonly<Record<Ailment, number>>;
  /** requests so far: by method, lists apart */
  readonly requests: Readonly<Record<string, number>>;
  stop(): Promise<void>;
}

/** A request as it came in. */
export interface SeenRequest {
  /** lists are `LIST` */
  readonly method: string;
  /** the object's key with its bucket before it */
  readonly path: string;
  /** of the body */
  readonly bytes: number;
}

export interface FaultProxyOptions {
  /** default: 1 */
  readonly seed?: number;
  /** how long a request that is never answered is held; default: not at all */
  readonly silenceMs?: number;
  readonly onRequest?: (seen: SeenRequest) => void;
}

export async function startFaultProxy(target: string, options: FaultProxyOptions = {}): Promise<FaultProxy> {
  const proxy = new Proxy(target, options);
  return await proxy.start();
}

class Proxy implements FaultProxy {
  endpoint = "";
  share = 0;
  readonly ailed: Record<Ailment, number> = Object.fromEntries(AILMENTS.map((name) => [name, 0])) as Record<Ailment, number>;
  readonly requests: Record<string, number> = {};
  readonly #agent = new Agent({ keepAlive: true });
  readonly #server = createServer((incoming, outgoing) => void this.#serve(incoming, outgoing));
  readonly #target: URL;
  readonly #rng: Rng;
  readonly #silenceMs: number;
  readonly #onRequest: (seen: SeenRequest) => void;
  /** the last whole answer to each list */
  readonly #lists = new Map<string, { readonly head: IncomingMessage; readonly body: Buffer }>();

  constructor(target: string, { seed = 1, silenceMs = 0, onRequest = () => undefined }: FaultProxyOptions) {
    this.#target = new URL(target);
    this.#rng = new Rng(seed);
    this.#silenceMs = silenceMs;
    this.#onRequest = onRequest;
  }

  async start(): Promise<FaultProxy> {
    this.endpoint = await listen(this.#server);
    return this;
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const list = incoming.method === "GET" && (incoming.url ?? "").includes("list-type=2") ? (incoming.url ?? "") : null;
    const kind = list === null ? (incoming.method ?? "") : "LIST";
    this.requests[kind] = (this.requests[kind] ?? 0) + 1;
    const ailment = this.#draw(list);
    try {
      const body = await whole(incoming);
      this.#onRequest({ method: kind, path: decodeURIComponent((incoming.url ?? "").split("?")[0] ?? ""), bytes: body.length });
      if (ailment === "stale-list" && list !== null) return this.#stale(list, outgoing);
      if (ailment === "internal-error") return refuse(outgoing, 500, "InternalError");
      if (ailment === "slow-down") return refuse(outgoing, 503, "SlowDown");
      if (ailment === "reset-before") return void outgoing.destroy();
      if (ailment === "silence") return void setTimeout(() => outgoing.destroy(), this.#silenceMs).unref();
      const { head, answer } = await this.#forward(incoming, body);
      if (list !== null && head.statusCode === 200) this.#lists.set(list, { head, body: answer });
      if (ailment === "reset-after") return void outgoing.destroy();
      outgoing.writeHead(head.statusCode ?? 502, head.headers);
      if (ailment !== "cut-answer") return void outgoing.end(answer);
      outgoing.write(answer.subarray(0, answer.length >> 1), () => outgoing.destroy());
    } catch {
      outgoing.destroy();
    }
  }

  #draw(list: string | null): Ailment | null {
    if (!this.#rng.chance(this.share)) return null;
    const ailment = this.#rng.pick(AILMENTS);
    if (ailment === "stale-list" && (list === null || !this.#lists.has(list))) return null;
    this.ailed[ailment] += 1;
    return ailment;
  }

  #stale(list: string, outgoing: ServerResponse): void {
    const known = this.#lists.get(list);
    if (known === undefined) return void outgoing.destroy();
    outgoing.writeHead(200, known.head.headers);
    outgoing.end(known.body);
  }

  async #forward(
    { method, url, headers }: IncomingMessage,
    body: Buffer,
  ): Promise<{ readonly head: IncomingMessage; readonly answer: Buffer }> {
    const { hostname, port } = this.#target;
    const forward = request({ agent: this.#agent, hostname, port, method, path: url, headers });
    const answered = once(forward, "response") as Promise<[IncomingMessage]>;
    forward.end(body);
    const [head] = await answered;
    return { head, answer: await whole(head) };
  }
}

async function whole(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function refuse(outgoing: ServerResponse, status: number, code: string): void {
  outgoing.writeHead(status, { "content-type": "application/xml", date: new Date().toUTCString() });
  outgoing.end(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>as planned</Message></Error>`);
}
