import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { inspect } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Board } from "../../src/agent/orders/board.ts";
import { ChannelServer, Refusal } from "../../src/agent/orders/channel-server.ts";
import { type FrozenMessage, parseFrozen } from "../../src/api/index.ts";
import { AgentChannel } from "../../src/controller/agents/agent-channel.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { SealBrokenError, SealingKey } from "../../src/lib/sealed-message.ts";
import { freePort } from "./ports.ts";

const never = new AbortController().signal;

describe("sealed messages", () => {
  const key = SealingKey.random();

  test("open with their key at their place, and nowhere else", () => {
    const text = randomBytes(1000);
    const sealed = key.seal(text, "/progress");
    expect(key.open(sealed, "/progress").equals(text)).toBe(true);
    expect(() => key.open(sealed, "/points")).toThrow(SealBrokenError);
    expect(() => SealingKey.random().open(sealed, "/progress")).toThrow(SealBrokenError);
    for (const at of [0, 11, 12, 500, sealed.length - 1]) {
      const damaged = Buffer.from(sealed);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(() => key.open(damaged, "/progress")).toThrow(SealBrokenError);
    }
    for (const length of [0, 12, 27, sealed.length - 1])
      expect(() => key.open(sealed.subarray(0, length), "/progress")).toThrow(SealBrokenError);
    // Never the same twice.
    expect(key.seal(text, "/progress").equals(sealed)).toBe(false);
  });

  test("a key is 32 bytes, known by its header alone", () => {
    expect(() => new SealingKey(randomBytes(31))).toThrow(RangeError);
    expect(SealingKey.fromBase64(key.toBase64()).authorization).toBe(key.authorization);
    expect([
      key.authorizes(key.authorization),
      key.authorizes(SealingKey.random().authorization),
      key.authorizes(undefined),
      key.authorizes(""),
    ]).toEqual([true, false, false, false]);
    expect(inspect(key) + JSON.stringify(key)).not.toContain(key.toBase64());
  });
});

describe("the channel", () => {
  const key = SealingKey.random();
  const board = new Board();
  const frozen: FrozenMessage[] = [];
  let port = 0;
  let server: ChannelServer;
  let agent: AgentChannel;
  beforeAll(async () => {
    port = await freePort();
    server = await ChannelServer.open({
      port,
      host: "127.0.0.1",
      key,
      log: silentLogger,
      routes: {
        "GET /progress": async () => board.progress,
        "GET /wait": async ({ query, signal }) => {
          await board.changed(query.get("seen") ?? "", 400, signal);
          return board.progress;
        },
        "POST /frozen": async ({ body }) => {
          if (frozen.length > 0) throw new Refusal(409, "no longer");
          frozen.push(parseFrozen(body));
          return {};
        },
        "GET /captures/": async ({ rest }) => {
          if (rest !== "notes & more.json") throw new Error(`secret detail of ${rest}`);
          return { base64: Buffer.from("hello").toString("base64"), next: null };
        },
      },
    });
    agent = new AgentChannel({ host: "127.0.0.1", port, key });
  });
  afterAll(async () => server.close());

  const raw = async (path: string, init: RequestInit = {}): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
    return [response.status, await response.text()];
  };
  const authorized = { authorization: key.authorization };

  test("tells nobody without the key anything, whatever he asks for", async () => {
    expect(await raw("/healthz")).toEqual([200, "ok"]);
    for (const path of ["/progress", "/captures/x", "/nothing", "/healthz?x", "/%zz"]) {
      for (const headers of [{}, { authorization: "Bearer x" }, { authorization: SealingKey.random().authorization }])
        expect(await raw(path, { headers })).toEqual([401, ""]);
    }
    expect(await raw("/frozen", { method: "POST", body: "x" })).toEqual([401, ""]);
    expect(await raw("/healthz", { method: "POST", body: "x" })).toEqual([401, ""]);
  });

  test("gives sealed answers, bound to what was asked", async () => {
    expect(await agent.progress(never)).toEqual({ phase: "Starting", totalBytes: 0, doneBytes: 0, readBytes: 0, storedBytes: 0 });
    const response = await fetch(`http://127.0.0.1:${port}/progress?n=1`, { headers: authorized });
    const sealed = Buffer.from(await response.arrayBuffer());
    expect(sealed.includes("Starting")).toBe(false);
    expect(JSON.parse(key.open(sealed, "/progress?n=1").toString())).toEqual(board.progress);
    expect(() => key.open(sealed, "/progress?n=2")).toThrow(SealBrokenError);
    expect((await agent.capture("notes & more.json", never)).toString()).toBe("hello");
  });

  test("a wait ends with the phase, or with its time, and with the one who waits", async () => {
    const waited = agent.wait("Starting", never);
    await sleep(50);
    board.enter("Copying");
    expect((await waited).phase).toBe("Copying");
    const began = performance.now();
    expect((await agent.wait("Copying", never)).phase).toBe("Copying");
    expect(performance.now() - began).toBeGreaterThan(350);
    const gone = new AbortController();
    const left = agent.wait("Copying", gone.signal);
    setTimeout(() => gone.abort(new Error("enough")), 30);
    await expect(left).rejects.toThrow("enough");
  });

  test("garbled, foreign and replayed bodies are refused, and the right one is taken once", async () => {
    const body = JSON.stringify({ ok: true, remainingMs: 1000 });
    const post = async (bytes: Uint8Array, path = "/frozen"): Promise<number> =>
      (await raw(path, { method: "POST", headers: authorized, body: Buffer.from(bytes) }))[0];
    const sealed = key.seal(Buffer.from(body), "POST /frozen");
    const flipped = Buffer.from(sealed);
    flipped[20] = (flipped[20] ?? 0) ^ 1;
    // In the clear, for another place, as an answer, changed, of another key, too long, and not as the contract has it.
    const wrong = [
      Buffer.from(body),
      key.seal(Buffer.from(body), "POST /done"),
      key.seal(Buffer.from(body), "/frozen"),
      flipped,
      SealingKey.random().seal(Buffer.from(body), "POST /frozen"),
      key.seal(randomBytes(10_000), "POST /frozen"),
      key.seal(Buffer.from('{"ok":true}'), "POST /frozen"),
      key.seal(Buffer.from("{"), "POST /frozen"),
    ];
    for (const bytes of wrong) expect(await post(bytes)).toBe(400);
    expect(frozen).toEqual([]);
    expect(await post(sealed)).toBe(200);
    expect(await post(sealed)).toBe(409);
    expect(frozen).toEqual([{ ok: true, remainingMs: 1000 }]);
    await expect(agent.frozen({ ok: false, message: "no" }, never)).rejects.toMatchObject({ code: "conflict" });
  });

  test("the client says what was wrong by one closed list", async () => {
    await expect(new AgentChannel({ host: "127.0.0.1", port, key: SealingKey.random() }).progress(never)).rejects.toMatchObject({
      code: "refused",
    });
    await expect(agent.points(0, never)).rejects.toMatchObject({ code: "not-found" });
    await expect(agent.capture("other", never)).rejects.toMatchObject({ code: "failed" });
    await expect(new AgentChannel({ host: "127.0.0.1", port: await freePort(), key }).progress(never)).rejects.toMatchObject({
      code: "unreachable",
    });
    const stranger = createServer((_, response) => response.end('{"phase":"Ended"}')).listen(0, "127.0.0.1");
    await new Promise((resolve) => stranger.once("listening", resolve));
    const fooled = new AgentChannel({ host: "127.0.0.1", port: (stranger.address() as AddressInfo).port, key });
    await expect(fooled.progress(never)).rejects.toMatchObject({ name: "ChannelError", code: "bad-answer" });
    stranger.close();
  });

  test("who says nothing, or too much, does not hold it up", async () => {
    const sockets = Array.from({ length: 20 }, () => connect(port, "127.0.0.1"));
    for (const socket of sockets) socket.on("error", () => undefined).write("GET /progress HTTP/1.1\r\nx: ");
    expect((await agent.progress(never)).phase).toBe("Copying");
    expect((await raw("/progress", { headers: { ...authorized, "x-long": "a".repeat(9000) } }))[0]).toBe(431);
    for (const socket of sockets) socket.destroy();
  });

  test("a port that is taken is said", async () => {
    await expect(ChannelServer.open({ port, host: "127.0.0.1", key, log: silentLogger, routes: {} })).rejects.toMatchObject({
      name: "OrderError",
      code: "no-channel",
    });
  });
});
