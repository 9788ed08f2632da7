import { once } from "node:events";
import { Agent, createServer, type IncomingMessage, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";

/** An HTTP proxy in front of a server that changes one bit of the bodies that pass in one direction; heads pass as they are. */
export interface DamagingProxy {
  readonly endpoint: string;
  damage: "nothing" | "request" | "response";
  stop(): Promise<void>;
}

export async function startDamagingProxy(target: string): Promise<DamagingProxy> {
  const agent = new Agent({ keepAlive: true });
  const { hostname, port } = new URL(target);
  const server = createServer((incoming, outgoing) => {
    const { method, url, headers } = incoming;
    const forward = request({ agent, hostname, port, method, path: url, headers });
    const answered = once(forward, "response").then(async ([response]: IncomingMessage[]) => {
      if (response === undefined) throw new Error("no response");
      outgoing.writeHead(response.statusCode ?? 502, response.headers);
      await pipeline(response, damager(proxy.damage === "response"), outgoing);
    });
    const sent = pipeline(incoming, damager(proxy.damage === "request"), forward);
    Promise.all([answered, sent]).catch(() => outgoing.destroy());
  });
  const proxy: DamagingProxy = { endpoint: await listen(server), damage: "nothing", stop: () => stop(server, agent) };
  return proxy;
}

export async function listen(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function stop(server: Server, agent: Agent): Promise<void> {
  agent.destroy();
  server.closeAllConnections();
  server.close();
  await once(server, "close");
}

function damager(active: boolean): Transform {
  let hit = !active;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (hit || chunk.length === 0) return done(null, chunk);
      hit = true;
      const copy = Buffer.from(chunk);
      const at = copy.length >> 1;
      copy.writeUInt8(copy.readUInt8(at) ^ 0x10, at);
      return done(null, copy);
    },
  });
}
