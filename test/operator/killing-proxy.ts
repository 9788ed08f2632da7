import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, createServer, request, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { type ControlPlane, Identity, writeKubeconfig } from "../cluster/index.ts";

/** A change that the API server has made: `POST pods`, `PATCH virtualmachinebackups/status`. */
export interface Write {
  readonly what: string;
  readonly text: string;
}

/**
 * Stands between a controller and its API server, and says of every change that the server has made before the controller hears of it. Who is
 * killed in that moment has made the step and does not know.
 */
export class KillingProxy {
  /** A controller that talks through it. */
  readonly identity: Identity;
  /** True: the controller never gets the answer. */
  onWrite: (write: Write) => boolean = () => false;
  readonly #server: Server;
  readonly #agent: Agent;

  private constructor(server: Server, agent: Agent, identity: Identity) {
    this.#server = server;
    this.#agent = agent;
    this.identity = identity;
  }

  static async start(plane: ControlPlane): Promise<KillingProxy> {
    const [user, serving] = await Promise.all([
      plane.authority.issue("proxied", { subject: "/O=system:masters/CN=proxied" }),
      plane.authority.issue("proxy", { subject: "/CN=proxy", names: ["127.0.0.1"] }),
    ]);
    const read = ({ cert, key }: typeof user): { cert: Buffer; key: Buffer } => ({ cert: readFileSync(cert), key: readFileSync(key) });
    const agent = new Agent({ keepAlive: true, ca: readFileSync(plane.layout.ca.cert), ...read(user) });
    const server = createServer(read(serving)).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const file = join(plane.dir, "proxied.kubeconfig");
    const kubeconfig = writeKubeconfig(file, { server: `https://127.0.0.1:${port}`, ca: plane.layout.ca.cert }, { token: "none" });
    const proxy = new KillingProxy(server, agent, new Identity(kubeconfig));
    server.on("request", (incoming: IncomingMessage, outgoing: ServerResponse) => {
      proxy.#forward(plane.server, incoming, outgoing).catch(() => outgoing.destroy());
    });
    return proxy;
  }

  async #forward(to: string, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = "GET", url = "/" } = incoming;
    const body = await buffer(incoming);
    const headers = { ...incoming.headers };
    delete headers.authorization;
    delete headers.host;
    const call = request(`${to}${url}`, { method, headers, agent: this.#agent });
    outgoing.once("close", () => call.destroy());
    call.end(body);
    const [answer] = (await once(call, "response")) as [IncomingMessage];
    const { statusCode = 502 } = answer;
    const isDone = method !== "GET" && statusCode < 300 && !url.includes("dryRun=");
    if (isDone && this.onWrite({ what: `${method} ${resourceOf(url)}`, text: `${url} ${body.toString("utf8")}` })) {
      outgoing.destroy();
      return;
    }
    outgoing.writeHead(statusCode, answer.headers);
    // A watch is answered long before it has something to tell.
    outgoing.flushHeaders();
    await pipeline(answer, outgoing);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    this.#agent.destroy();
    await once(this.#server, "close");
  }
}

/** `pods`, `virtualmachinebackups/status`: of a path of the API, with or without a name. */
function resourceOf(url: string): string {
  const path = new URL(url, "http://any").pathname.replace(/^\/(?:api|apis\/[^/]+)\/[^/]+\//, "").replace(/^namespaces\/[^/]+\//, "");
  const [resource = "", , subresource] = path.split("/");
  return subresource === undefined ? resource : `${resource}/${subresource}`;
}
