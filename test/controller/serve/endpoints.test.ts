import { once } from "node:events";
import { request } from "node:http";
import { afterEach, describe, expect, test } from "vitest";

import { Endpoints } from "../../../src/controller/serve/endpoints.ts";
import { EndpointError } from "../../../src/controller/serve/errors.ts";
import { Standing } from "../../../src/controller/serve/standing.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { parseMetrics, valueOf } from "../../support/prometheus.ts";

const idle = { depth: 0, inHand: 1, delayed: 0, oldestMs: 0, longestRunningMs: 0, done: 0, failed: 0, waitedMs: 0, workedMs: 0 };
const MINUTE = 60_000;

describe("the controller's endpoints", () => {
  const open: Endpoints[] = [];
  afterEach(async () => {
    for (const endpoints of open.splice(0)) await endpoints.close();
  });

  async function serve(): Promise<{
    readonly standing: Standing;
    readonly url: string;
    readonly stop: AbortController;
    readonly port: number;
  }> {
    const stop = new AbortController();
    const standing = new Standing({ answers: [] }, stop.signal, () => new Date());
    const endpoints = await Endpoints.open(0, standing, silentLogger);
    open.push(endpoints);
    return { standing, stop, port: endpoints.port, url: `http://127.0.0.1:${endpoints.port}` };
  }

  test("it is alive, not ready, and tells what it knows before it has seen the cluster", async () => {
    const { url } = await serve();
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const ready = await fetch(`${url}/readyz`);
    expect([ready.status, await ready.text()]).toEqual([503, "the API server did not answer yet\n"]);
    const metrics = await fetch(`${url}/metrics`);
    expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const families = parseMetrics(await metrics.text());
    expect(valueOf(families, "thinstream_leader")).toBe(0);
    expect(valueOf(families, "thinstream_process_resident_memory_bytes")).toBeGreaterThan(1e6);
  });

  test("work that is stuck makes it sick, and only while it leads; a long catalog does not", async () => {
    const { url, standing } = await serve();
    const health = async (): Promise<[number, string]> => {
      const answer = await fetch(`${url}/healthz`);
      return [answer.status, await answer.text()];
    };
    let end = standing.leads([{ name: "BackupPolicy", figures: { ...idle, longestRunningMs: 11 * MINUTE } }]);
    expect(await health()).toEqual([503, "work on a BackupPolicy is under way for 11 min and counts as stuck\n"]);
    end();
    expect(await health()).toEqual([200, "ok\n"]);
    end = standing.leads([{ name: "BackupRepository", figures: { ...idle, longestRunningMs: 11 * MINUTE } }]);
    expect(await health()).toEqual([200, "ok\n"]);
    end();
    standing.leads([{ name: "BackupRepository", figures: { ...idle, longestRunningMs: 21 * MINUTE } }]);
    expect((await health())[0]).toBe(503);
  });

  test("told to end, it is alive and not ready", async () => {
    const { url, stop } = await serve();
    stop.abort();
    const ready = await fetch(`${url}/readyz`);
    expect([ready.status, await ready.text()]).toEqual([503, "it is told to end\n"]);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
  });

  test("nothing else is answered, and no body is taken", async () => {
    const { url, port } = await serve();
    expect((await fetch(`${url}/`)).status).toBe(404);
    expect((await fetch(`${url}/metrics`, { method: "POST", body: "x" })).status).toBe(405);
    expect((await fetch(`${url}/metrics`, { method: "HEAD" })).status).toBe(200);
    const sent = request({ port, path: "/metrics", method: "GET", headers: { "content-length": 1_000_000_000, expect: "100-continue" } });
    sent.on("continue", () => expect.unreachable("the body was asked for"));
    sent.flushHeaders();
    const [answer] = (await once(sent, "response")) as [{ statusCode: number }];
    sent.destroy();
    expect(answer.statusCode).toBe(413);
  });

  test("a port that is taken is said to be, with what to do", async () => {
    const { port, standing } = await serve();
    const failure = await Endpoints.open(port, standing, silentLogger).catch((thrown: unknown) => thrown);
    expect(failure).toBeInstanceOf(EndpointError);
    expect(failure).toMatchObject({ code: "port-unavailable", hint: expect.stringContaining("metricsPort") as unknown });
  });
});
