import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { RequestOptions } from "../../src/kube/requests.ts";
import type { ResourceKind } from "../../src/kube/index.ts";
import { Informer, KubeClient } from "../../src/kube/index.ts";

const things: ResourceKind = { group: "", version: "v1", plural: "things", kind: "Thing", namespaced: false };
const thing = JSON.stringify({ apiVersion: "v1", kind: "Thing", metadata: { name: "a" } });
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "it did not fail",
    (thrown: unknown) => thrown,
  );

/** bytes in use once what is not needed is gone */
function heapUsed(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let times = 0; times < 3; times += 1) collect();
  return process.memoryUsage().heapUsed;
}

/** What no API server does when asked to: servers in trouble, and what stands between. */
describe("on the wire, a client", () => {
  const ends: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });

  async function serve(answer: (response: ServerResponse, request: IncomingMessage, count: number) => void, options: RequestOptions = {}) {
    let connections = 0;
    let requests = 0;
    let refreshed = 0;
    const server = createServer((request, response) => answer(response, request, (requests += 1)));
    server.on("connection", () => (connections += 1));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const access = {
      server: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/under/`),
      headers: { authorization: "Bearer t" },
      tls: {},
    };
    const credentials = { namespace: undefined, access: () => Promise.resolve(access), refresh: () => void (refreshed += 1) };
    const client = new KubeClient(credentials, options);
    ends.push(async () => {
      client.close();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    });
    return { get: () => client.get(things, { name: "a" }), client, counts: () => ({ connections, requests, refreshed }) };
  }

  test("keeps its connection, and says who it is", async () => {
    const seen: unknown[] = [];
    const { get, counts } = await serve((response, { url, headers }) => {
      seen.push([url, headers.authorization, headers["user-agent"]]);
      response.end(thing);
    });
    for (let times = 0; times < 20; times += 1) await get();
    expect(counts()).toEqual({ connections: 1, requests: 20, refreshed: 0 });
    expect(seen[0]).toEqual(["/under/api/v1/things/a", "Bearer t", "thinstream"]);
  });

  test.each([429, 503])("waits as long as it is told to by a %i, and no longer than its time", async (status) => {
    const { get, counts } = await serve((response, _, count) => {
      if (count > 2) response.end(thing);
      else response.writeHead(status, { "retry-after": "1" }).end("slow down");
    });
    const since = performance.now();
    expect((await get()).metadata.name).toBe("a");
    expect(performance.now() - since).toBeGreaterThanOrEqual(1990);
    expect(counts().requests).toBe(3);

    const patient = await serve((response) => response.writeHead(status, { "retry-after": "30" }).end("slow down"), { timeoutMs: 1000 });
    const code = status === 429 ? "too-many-requests" : "unavailable";
    expect(await failureOf(patient.get())).toMatchObject({ code, retryAfterMs: 30_000, message: 'cannot get things "a": slow down' });
    expect(patient.counts().requests).toBe(1);
  });

  test("counts what it was answered, by verb and status, retries and silence too", async () => {
    const { client, get } = await serve((response, { method }, count) => {
      if (method === "DELETE") response.destroy();
      else if (count === 1) response.writeHead(429, { "retry-after": "1" }).end();
      else response.end(thing);
    });
    await get();
    await get();
    await failureOf(client.delete(things, { name: "a" }));
    expect(client.answers).toEqual([
      { verb: "GET", code: 429, count: 1 },
      { verb: "GET", code: 200, count: 2 },
      { verb: "DELETE", code: null, count: 1 },
    ]);
  });

  test("keeps nothing of a call that is over, on a signal that lasts", async () => {
    const { client } = await serve((response) => response.end(thing), { qps: 1e6, burst: 1e6 });
    const { signal } = new AbortController();
    const many = async (): Promise<void> => {
      for (let times = 0; times < 2000; times += 1) await client.get(things, { name: "a" }, { signal });
    };
    await many();
    const before = heapUsed();
    await many();
    expect((heapUsed() - before) / 2000).toBeLessThan(200);
  });

  test("does not repeat what failed without such a word", async () => {
    const { get, counts } = await serve((response) => response.writeHead(500).end("{"));
    expect(await failureOf(get())).toMatchObject({ code: "unavailable", status: 500 });
    expect(counts().requests).toBe(1);
  });

  test("asks for credentials once more after a 401, and once only", async () => {
    const { get, counts } = await serve((response) => response.writeHead(401).end());
    expect(await failureOf(get())).toMatchObject({ code: "unauthorized" });
    expect(counts()).toMatchObject({ requests: 2, refreshed: 1 });
  });

  test.each<[string, (response: ServerResponse) => void, RegExp]>([
    ["a page of a proxy", (response) => response.end("<html>"), /no API server/],
    [
      "half an answer",
      (response) => (response.writeHead(200, { "content-length": 100 }), response.write("{"), setTimeout(() => response.destroy(), 50)),
      /aborted/,
    ],
    ["no answer", () => undefined, /took longer than 500 ms/],
    ["an answer that never ends", (response) => response.write("{"), /took longer than 500 ms/],
    ["a cut line", (response) => response.destroy(), /socket hang up/],
  ])("takes %s for a server that is not there", async (_, answer, words) => {
    const { get } = await serve(answer, { timeoutMs: 500 });
    expect(await failureOf(get())).toMatchObject({ code: "unavailable", message: expect.stringMatching(words) as string });
  });

  test("reads a watch as it comes, and takes nonsense for a server that is not there", async () => {
    const event = (version: number): string =>
      JSON.stringify({ type: "MODIFIED", object: { metadata: { name: "a", resourceVersion: String(version) } } });
    const { client } = await serve((response) => {
      response.write(`${event(1)}\n${event(2).slice(0, 20)}`);
      setTimeout(() => response.end(`${event(2).slice(20)}\nnonsense\n`), 200);
    });
    const watch = client.watch(things, { resourceVersion: "1" });
    const since = performance.now();
    expect((await watch.next()).value).toMatchObject({ object: { metadata: { resourceVersion: "1" } } });
    expect(performance.now() - since).toBeLessThan(150);
    expect((await watch.next()).value).toMatchObject({ object: { metadata: { resourceVersion: "2" } } });
    expect(await failureOf(watch.next())).toMatchObject({ code: "unavailable", message: expect.stringContaining("no JSON") as string });
  });

  /** Follows a server that lists `names(n)` at the n-th list and answers watches by `watch`. */
  async function follow(names: (lists: number) => string[], watch: (response: ServerResponse) => void) {
    const counts = { lists: 0, watches: 0 };
    const { client } = await serve((response, { url = "" }) => {
      if (url.includes("watch=true")) {
        counts.watches += 1;
        return watch(response);
      }
      counts.lists += 1;
      const items = names(counts.lists).map((name) => ({ metadata: { name, resourceVersion: String(1000 / counts.lists) } }));
      response.end(JSON.stringify({ metadata: { resourceVersion: String(1000 / counts.lists) }, items }));
    });
    const told: string[] = [];
    const informer = new Informer(client, things, { silenceMs: 400 });
    informer.subscribe({
      added: ({ metadata }) => told.push(`+${metadata.name}`),
      deleted: ({ metadata }) => told.push(`-${metadata.name}`),
    });
    const aborter = new AbortController();
    const running = informer.run(aborter.signal);
    ends.unshift(async () => {
      aborter.abort();
      await running;
    });
    return { told, counts };
  }

  test("lists anew where a watch never says a word: the server's data may be older than what was seen", async () => {
    const { told } = await follow(
      (lists) => (lists === 1 ? ["a", "b"] : ["a"]),
      (response) => response.flushHeaders(),
    );
    await vi.waitFor(() => expect(told).toContain("-b"), 5000);
    expect(told).toEqual(["+a", "+b", "-b"]);
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ["forgets at once", (response) => response.writeHead(410).end("{}")],
    [
      "forgets by an event",
      (response) => response.end(`${JSON.stringify({ type: "ERROR", object: { code: 410, message: "too old" } })}\n`),
    ],
    ["ends every watch at once", (response) => response.end()],
    ["refuses every watch", (response) => response.writeHead(403).end("{}")],
  ])("does not storm a server that %s", async (_, watch) => {
    const { counts } = await follow(() => ["a"], watch);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect(counts.watches).toBeGreaterThanOrEqual(2);
    expect(counts.lists + counts.watches).toBeLessThan(14);
  });

  test("asks for the end of a container's log", async () => {
    const asked: (string | undefined)[] = [];
    const { client } = await serve((response, { url }) => (asked.push(url), response.end("last words\n")));
    expect(await client.podLog({ namespace: "n", name: "p" }, { container: "c", tailLines: 7, previous: true })).toBe("last words\n");
    expect(asked).toEqual(["/under/api/v1/namespaces/n/pods/p/log?container=c&tailLines=7&previous=true&limitBytes=262144"]);
  });
});
