import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { ControlPlane } from "../cluster/index.ts";
import { LabError } from "../lab/index.ts";

/** What every object of the API has. */
export interface Meta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly deletionGracePeriodSeconds?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly { readonly uid: string; readonly kind: string; readonly name: string }[];
}

export interface KubeObject {
  readonly metadata: Meta;
}

/** The API server's refusal: its status code, 0 where it did not answer. */
export class ApiError extends LabError {
  override readonly name: string = "ApiError";
  readonly code: number;

  constructor(code: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

interface Sent {
  readonly method: Method;
  readonly path: string;
  readonly body?: object;
  readonly patch?: "merge" | "strategic-merge";
  readonly signal?: AbortSignal;
}

/** A client that keeps its connections and watches: a kubelet that starts kubectl for every heartbeat would keep the machine busy. */
export class Api {
  readonly #server: string;
  readonly #agent: Agent;

  private constructor(server: string, agent: Agent) {
    this.#server = server;
    this.#agent = agent;
  }

  /** A member of system:masters by a name of its own, so that the audit log tells it from others. */
  static async as(plane: ControlPlane, name: string): Promise<Api> {
    const { cert, key } = await plane.authority.issue(name, { subject: `/O=system:masters/CN=${name}` });
    const [ca, certificate, secret] = [plane.layout.ca.cert, cert, key].map((file) => readFileSync(file));
    return new Api(plane.server, new Agent({ keepAlive: true, ca, cert: certificate, key: secret }));
  }

  /** @throws ApiError */
  get<T>(path: string): Promise<T> {
    return this.send<T>({ method: "GET", path });
  }

  /** @throws ApiError */
  create<T>(path: string, body: object): Promise<T> {
    return this.send<T>({ method: "POST", path, body });
  }

  /** @throws ApiError */
  patch<T>(path: string, body: object, patch: "merge" | "strategic-merge" = "merge"): Promise<T> {
    return this.send<T>({ method: "PATCH", path, body, patch });
  }

  /** Gone already is as good. @throws ApiError */
  async remove(path: string, options: object = {}): Promise<void> {
    await this.send({ method: "DELETE", path, body: options }).catch(ignore(404, 409));
  }

  /** @throws ApiError */
  async send<T>(sent: Sent): Promise<T> {
    const response = await this.#open(sent);
    const answer = await text(response).catch((cause: unknown) => {
      throw new ApiError(0, `${sent.method} ${sent.path}: the answer broke off`, { cause });
    });
    const { statusCode = 0 } = response;
    if (statusCode < 200 || statusCode > 299)
      throw new ApiError(statusCode, `${sent.method} ${sent.path}: ${statusCode} ${answer.slice(0, 500)}`);
    return JSON.parse(answer) as T;
  }

  /** The lines of a watch, until it ends or the signal aborts. @throws ApiError */
  async *lines(path: string, signal: AbortSignal): AsyncGenerator {
    const response = await this.#open({ method: "GET", path, signal });
    if (response.statusCode !== 200)
      throw new ApiError(response.statusCode ?? 0, `watch ${path}: ${response.statusCode} ${await text(response)}`);
    try {
      for await (const line of createInterface(response)) yield JSON.parse(line) as unknown;
    } catch (cause) {
      throw new ApiError(0, `watch ${path} broke off`, { cause });
    }
  }

  async #open({ method, path, body, patch, signal }: Sent): Promise<IncomingMessage> {
    const content = body === undefined ? "" : JSON.stringify(body);
    const headers = {
      "content-type": patch === undefined ? "application/json" : `application/${patch}-patch+json`,
      // Node sends the body of a DELETE without saying how long it is.
      "content-length": Buffer.byteLength(content),
    };
    const call = request(`${this.#server}${path}`, {
      method,
      headers,
      agent: this.#agent,
      timeout: 600_000,
      ...(signal ? { signal } : {}),
    });
    call.end(content);
    try {
      const [response] = (await once(call, "response")) as [IncomingMessage];
      call.on("error", () => undefined); // whoever reads the body is told
      return response;
    } catch (cause) {
      throw new ApiError(0, `${method} ${path}: ${String(cause)}`, { cause });
    }
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** For `catch`: these refusals are no failure. */
export function ignore(...codes: readonly number[]): (cause: unknown) => undefined {
  return (cause) => {
    if (cause instanceof ApiError && codes.includes(cause.code)) return undefined;
    throw cause;
  };
}

/** Repeats until the API server takes it, or refuses it for good (4xx), or the signal aborts: an outage only delays. */
export async function persist<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T | undefined> {
  for (;;) {
    try {
      return await work();
    } catch (cause) {
      const code = cause instanceof ApiError ? cause.code : 0;
      if (signal.aborted || code === 404 || code === 409 || code === 422) return undefined;
      if (!(cause instanceof ApiError)) throw cause;
      await sleep(300);
    }
  }
}
