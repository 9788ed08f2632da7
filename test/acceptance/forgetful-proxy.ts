import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, request } from "node:http";
import { pipeline } from "node:stream/promises";
import type { S3Lab } from "../lab/index.ts";
import { authorization } from "../lab/sigv4.ts";
import { listen } from "../objectstore/s3/damaging-proxy.ts";

/** An S3 server as some are: it knows no conditional writes, and says nothing of it. A proxy that drops `If-None-Match`, and signs anew what is left. */
export interface ForgetfulProxy {
  readonly endpoint: string;
  /** Conditions dropped so far. */
  dropped(): number;
  stop(): Promise<void>;
}

export async function startForgetfulProxy(lab: S3Lab): Promise<ForgetfulProxy> {
  const { hostname, port, host } = new URL(lab.endpoint);
  let dropped = 0;
  const server = createServer((incoming, outgoing) => {
    const { method = "GET", url = "/" } = incoming;
    if (incoming.headers["if-none-match"] !== undefined) dropped++;
    const [path = "/", query = ""] = url.split("?");
    const signed = signedHeaders(incoming.headers, host);
    const authorized = authorization({ method, path, query, headers: signed }, lab);
    const headers = { ...incoming.headers, host, authorization: authorized };
    delete (headers as IncomingHttpHeaders)["if-none-match"];
    const forward = request({ hostname, port, method, path: url, headers });
    const answered = once(forward, "response").then(async ([response]: import("node:http").IncomingMessage[]) => {
      if (response === undefined) throw new Error("no response");
      outgoing.writeHead(response.statusCode ?? 502, response.headers);
      await pipeline(response, outgoing);
    });
    Promise.all([answered, pipeline(incoming, forward)]).catch(() => outgoing.destroy());
  });
  return {
    endpoint: await listen(server),
    dropped: () => dropped,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** What S3 wants signed: the host and everything of Amazon's own. */
function signedHeaders(headers: IncomingHttpHeaders, host: string): Record<string, string> {
  const own = Object.entries(headers).filter(([name]) => name.startsWith("x-amz-"));
  return { host, ...Object.fromEntries(own.map(([name, value]) => [name, String(value)])) };
}
