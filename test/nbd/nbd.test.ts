import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, rmSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { afterEach, describe, expect, test } from "vitest";
import { ALLOCATION, NbdConnection, NbdError, type NbdExtent, NbdPool } from "../../src/nbd/index.ts";
import { tempDir } from "../lab/index.ts";
import { eventLoopLimit, quietest } from "../support/event-loop.ts";
import { type Server, serve, sh } from "./servers.ts";

const MiB = 2 ** 20;
const clean: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of clean.splice(0).toReversed()) await step();
});

function scratch(): string {
  const dir = tempDir("nbd");
  clean.push(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function start(command: "qemu-nbd" | "nbdkit", dir: string, ...args: string[]): Promise<Server> {
  const server = await serve(command, join(dir, "s.sock"), args);
  clean.push(() => server.stop());
  return server;
}

async function pool(server: Server, options: { bitmap?: string | null; connections?: number } = {}): Promise<NbdPool> {
  const { bitmap, ...rest } = options;
  const opened = await NbdPool.open({ socket: server.socket }, { ...rest, ...(bitmap === undefined ? {} : { status: { bitmap } }) });
  clean.push(() => opened.close());
  return opened;
}

async function collect(source: AsyncIterable<NbdExtent>): Promise<NbdExtent[]> {
  const all: NbdExtent[] = [];
  for await (const extent of source) all.push(extent);
  return all;
}

function pattern(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 4) bytes.writeUInt32LE(Math.imul(at + 1, 2654435761) >>> 0, at);
  return bytes;
}

/** `nbdinfo --map` as lengths of equal meaning, for comparison. */
function nbdinfoMap(socket: string, context: string, size: number): { offset: number; length: number; type: number }[] {
  const text = sh("nbdinfo", "--json", `--map=${context}`, `nbd+unix:///?socket=${socket}`);
  const rows = JSON.parse(text) as { offset: number; length: number; type: number }[];
  return rows.filter((row) => row.offset < size);
}

/** The states that both maps of nbdinfo together mean: painted by cutting at every end of either. */
function statesOf(alloc: Rows, dirty: Rows | null): NbdExtent[] {
  const cuts = new Set([...alloc, ...(dirty ?? [])].map((row) => row.offset + row.length));
  const isZero = lookup(alloc, (type) => (type & 2) !== 0);
  const isClean = dirty === null ? (): boolean => false : lookup(dirty, (type) => type === 0);
  const out: { offset: number; length: number; state: NbdExtent["state"] }[] = [];
  let at = 0;
  for (const cut of [...cuts].toSorted((a, b) => a - b)) {
    const state = isClean(at) ? "clean" : isZero(at) ? "zero" : "data";
    const last = out.at(-1);
    if (last?.state === state) last.length += cut - at;
    else out.push({ offset: at, length: cut - at, state });
    at = cut;
  }
  return out;
}

type Rows = ReturnType<typeof nbdinfoMap>;

/** Whether the row that holds an offset is of a kind; offsets must be asked for in ascending order. */
function lookup(rows: Rows, kind: (type: number) => boolean): (offset: number) => boolean {
  let index = 0;
  return (offset) => {
    for (let row = rows[index]; row !== undefined && row.offset + row.length <= offset; row = rows[index]) index += 1;
    return kind(rows[index]?.type ?? 0);
  };
}

describe("reading", () => {
  test("A3: every byte arrives, at any offset and length, into ordinary and shared memory", async () => {
    const dir = scratch();
    const bytes = pattern(9 * MiB + 512);
    writeFileSync(join(dir, "disk"), bytes);
    const nbd = await pool(await start("qemu-nbd", dir, "-r", "-f", "raw", "-e", "8", join(dir, "disk")));
    expect(nbd.info).toMatchObject({ size: bytes.length, canMultiConn: true, readOnly: true });
    const whole = new Uint8Array(new SharedArrayBuffer(bytes.length));
    const requests = Array.from({ length: Math.ceil(bytes.length / 65536) }, (_unused, index) => ({
      offset: index * 65536,
      into: whole.subarray(index * 65536, (index + 1) * 65536),
    }));
    await Promise.all([nbd.read(requests.slice(0, 50)), nbd.read(requests.slice(50, 51)), nbd.read(requests.slice(51))]);
    expect(Buffer.from(whole).equals(bytes)).toBe(true);
    const odd = [
      { offset: 1, into: Buffer.alloc(3) },
      { offset: bytes.length - 7, into: Buffer.alloc(7) },
      { offset: 777, into: Buffer.alloc(5 * MiB + 13) },
    ];
    await nbd.read(odd);
    expect(odd.every(({ offset, into }) => into.equals(bytes.subarray(offset, offset + into.length)))).toBe(true);
  });

  test("a server with large blocks gets aligned requests and the caller gets what it asked for", async () => {
    const dir = scratch();
    const bytes = pattern(4 * MiB + 4096 * 3);
    writeFileSync(join(dir, "disk"), bytes);
    const filter = [
      "--filter=blocksize-policy",
      "file",
      join(dir, "disk"),
      "blocksize-minimum=4096",
      "blocksize-preferred=65536",
      "blocksize-maximum=131072",
      "blocksize-error-policy=error",
    ];
    const nbd = await pool(await start("nbdkit", dir, ...filter));
    expect(nbd.info).toMatchObject({ minimumBlock: 4096, maximumBlock: 131072 });
    const into = Buffer.alloc(MiB + 11);
    await nbd.read([{ offset: 5, into }]);
    expect(into.equals(bytes.subarray(5, 5 + into.length))).toBe(true);
    const tail = Buffer.alloc(100);
    await nbd.read([{ offset: bytes.length - 100, into: tail }]);
    expect(tail.equals(bytes.subarray(bytes.length - 100))).toBe(true);
    await expect(nbd.write([{ offset: 5, from: Buffer.alloc(4096) }])).rejects.toMatchObject({ code: "misaligned" });
  });

  test("a read error names the place and the server's reason, and the other requests are not held up", async () => {
    const dir = scratch();
    writeFileSync(join(dir, "bad"), "");
    const server = await start(
      "nbdkit",
      dir,
      "--filter=error",
      "memory",
      "8M",
      "error-pread=EIO",
      "error-rate=1",
      `error-pread-file=${join(dir, "bad")}`,
    );
    const nbd = await pool(server);
    const requests = Array.from({ length: 8 }, (_unused, index) => ({ offset: index * 65536, into: new Uint8Array(65536) }));
    await expect(nbd.read(requests)).rejects.toMatchObject({
      code: "io",
      message: expect.stringMatching(/reading 65536 bytes at \d+ failed.*Input\/output error/),
    });
    sh("rm", join(dir, "bad"));
    await nbd.read(requests);
  });

  test("beyond the end is refused before anything is sent", async () => {
    const nbd = await pool(await start("nbdkit", scratch(), "memory", "1M"));
    await expect(nbd.read([{ offset: MiB - 1, into: new Uint8Array(2) }])).rejects.toMatchObject({ code: "out-of-range" });
    await expect(nbd.read([{ offset: -1, into: new Uint8Array(2) }])).rejects.toMatchObject({ code: "out-of-range" });
  });

  test("A20: a server killed in the middle ends every call with `disconnected`", async () => {
    const server = await start("nbdkit", scratch(), "--filter=delay", "memory", "64M", "delay-read=500ms");
    const nbd = await pool(server, { bitmap: null });
    const calls = Array.from({ length: 6 }, (_unused, index) => nbd.read([{ offset: index * MiB, into: new Uint8Array(MiB) }]));
    setTimeout(() => server.kill(), 100);
    const results = await Promise.allSettled(calls);
    expect(results.map((result) => (result.status === "rejected" ? (result.reason as NbdError).code : "fulfilled"))).toEqual(
      Array(6).fill("disconnected"),
    );
    await expect(collect(nbd.extents())).rejects.toBeInstanceOf(NbdError);
  });

  test("an abort ends a read that the server never answers, and the pool goes on", async () => {
    // One thread a connection: with several that find the client gone at once, nbdkit 1.32 fails an assertion of its own and is dead.
    const nbd = await pool(await start("nbdkit", scratch(), "--threads=1", "--filter=delay", "memory", "64M", "delay-read=3600"));
    const began = Date.now();
    const reason = new Error("enough");
    const signal = AbortSignal.timeout(200);
    await expect(nbd.read([{ offset: 0, into: new Uint8Array(MiB) }], signal)).rejects.toThrow(/aborted|timeout/i);
    expect(Date.now() - began).toBeLessThan(5000);
    await expect(nbd.read([{ offset: 0, into: new Uint8Array(1) }], AbortSignal.abort(reason))).rejects.toBe(reason);
    await nbd.write([{ offset: 0, from: new Uint8Array(512) }]);
  });

  test("use after close throws, a second close does nothing, and close breaks off what is under way", async () => {
    const server = await start("nbdkit", scratch(), "--filter=delay", "memory", "1M", "delay-read=3600");
    const connection = await NbdConnection.open({ socket: server.socket });
    const pending = connection.readMany([{ offset: 0, into: new Uint8Array(512) }]).catch((error: unknown) => error);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await connection.close();
    expect(await pending).toBeInstanceOf(NbdError);
    await connection.close();
    await expect(connection.readMany([{ offset: 0, into: new Uint8Array(512) }])).rejects.toMatchObject({ code: "closed" });
    await expect(connection.flush()).rejects.toMatchObject({ code: "closed" });
    await expect(connection.blockStatus(0, 512)).rejects.toMatchObject({ code: "closed" });
  });
});

describe("opening", () => {
  test("nothing there, no such export, missing context, silent server: each says so", async () => {
    const dir = scratch();
    await expect(NbdConnection.open({ socket: join(dir, "none") })).rejects.toMatchObject({
      code: "connect-failed",
      message: expect.stringContaining("No such file"),
    });
    const server = await start("qemu-nbd", dir, "-x", "vda", "-r", "-f", "raw", fileOf(dir, "disk", pattern(MiB)));
    await expect(NbdConnection.open({ socket: server.socket, exportName: "vdb" })).rejects.toMatchObject({ code: "connect-failed" });
    const missing = NbdConnection.open({ socket: server.socket, exportName: "vda" }, { metaContexts: [ALLOCATION, "qemu:dirty-bitmap:x"] });
    await expect(missing).rejects.toMatchObject({ code: "context-missing" });
    const silent = join(dir, "silent");
    const { createServer } = await import("node:net");
    const listener = createServer().listen(silent);
    clean.push(() => listener.close());
    await expect(NbdConnection.open({ socket: silent }, { connectTimeout: 300 })).rejects.toMatchObject({ code: "timeout" });
    await expect(NbdConnection.open({ socket: silent }, { signal: AbortSignal.timeout(300) })).rejects.toThrow(/aborted|timeout/i);
  });

  test("by URI", async () => {
    const dir = scratch();
    const server = await start("qemu-nbd", dir, "-x", "vda", "-r", "-f", "raw", fileOf(dir, "disk", pattern(MiB)));
    const connection = await NbdConnection.open({ uri: `nbd+unix:///vda?socket=${server.socket}` });
    expect(connection.info.size).toBe(MiB);
    await connection.close();
  });
});

function fileOf(dir: string, name: string, bytes: Uint8Array): string {
  writeFileSync(join(dir, name), bytes);
  return join(dir, name);
}

describe("writing", () => {
  test("writes, zeros, trims and flushes arrive in the image, and zeros leave it thin", async () => {
    const dir = scratch();
    const image = join(dir, "disk.qcow2");
    sh("qemu-img", "create", "-q", "-f", "qcow2", image, "32M");
    const server = await start("qemu-nbd", dir, "-f", "qcow2", "-e", "8", "--discard=unmap", image);
    const nbd = await pool(server);
    const bytes = pattern(8 * MiB);
    await nbd.write(
      Array.from({ length: 32 }, (_unused, index) => ({
        offset: index * 262144,
        from: bytes.subarray(index * 262144, (index + 1) * 262144),
      })),
    );
    await nbd.zero(MiB, 2 * MiB);
    await nbd.zero(4 * MiB, MiB, { noHole: true });
    await nbd.trim(6 * MiB, MiB);
    await nbd.flush();
    await nbd.close();
    await server.stop();
    bytes.fill(0, MiB, 3 * MiB);
    bytes.fill(0, 4 * MiB, 5 * MiB);
    bytes.fill(0, 6 * MiB, 7 * MiB);
    sh("qemu-img", "convert", "-O", "raw", image, join(dir, "raw"));
    const raw = readFileSync(join(dir, "raw"));
    expect(raw.subarray(0, 8 * MiB).equals(bytes)).toBe(true);
    expect(raw.subarray(8 * MiB).every((byte) => byte === 0)).toBe(true);
    const map = JSON.parse(sh("qemu-img", "map", "--output=json", image)) as { start: number; length: number; data: boolean }[];
    expect(map.filter((row) => row.data).reduce((sum, row) => sum + row.length, 0)).toBeLessThanOrEqual(5 * MiB);
  });
});

describe("A5: block status equals nbdinfo --map", () => {
  test("both contexts on a qcow2 with a persistent bitmap: data, zeroes, discards, unaligned", async () => {
    const dir = scratch();
    const image = join(dir, "disk.qcow2");
    sh("qemu-img", "create", "-q", "-f", "qcow2", image, "1G");
    sh("qemu-io", "-f", "qcow2", "-c", "write -P 0xaa 0 8M", "-c", "write -P 3 700M 64k", image);
    sh("qemu-img", "bitmap", "--add", image, "b0");
    const writes = [
      "write -P 1 100k 127k",
      "write -z -u 1M 128k",
      "write -z 2M 64k",
      "discard 3M 64k",
      "write -P 4 512M 1",
      "discard 700M 64k",
      "write -z 800M 3M",
      "write -P 9 1023M 1M",
    ];
    sh("qemu-io", "-d", "unmap", "-f", "qcow2", ...writes.flatMap((write) => ["-c", write]), image);
    const dirty = "qemu:dirty-bitmap:b0";
    const server = await start("qemu-nbd", dir, "-r", "-f", "qcow2", "-e", "16", "-B", "b0", image);
    const nbd = await pool(server, { bitmap: dirty });
    const alloc = nbdinfoMap(server.socket, ALLOCATION, nbd.info.size);
    expect(await collect((await pool(server, { bitmap: null })).extents())).toEqual(statesOf(alloc, null));
    const both = await collect(nbd.extents());
    // Short dirty runs are not asked about: reading them tells.
    const told = statesOf(alloc, nbdinfoMap(server.socket, dirty, nbd.info.size));
    expect(both).toEqual(told.map((one) => (one.state === "zero" && one.length < MiB ? { ...one, state: "data" } : one)));
    expect(new Set(both.map((extent) => extent.state))).toEqual(new Set(["clean", "data", "zero"]));
  });

  test(
    "A35 D3: 4 KiB clusters, the first GiB of 8 alternating: more extents than one reply holds, a change far behind them",
    { timeout: 300_000 },
    async () => {
      const dir = scratch();
      const raw = join(dir, "raw");
      const file = openSync(raw, "w");
      const block = Buffer.alloc(4096, 0xaa);
      for (let at = 0; at < 1024 * MiB; at += 8192) writeSync(file, block, 0, 4096, at);
      closeSync(file);
      sh("truncate", "-s", "8G", raw);
      const image = join(dir, "disk.qcow2");
      sh("qemu-img", "convert", "-S", "4k", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", raw, image);
      sh("rm", raw);
      sh("qemu-img", "bitmap", "--add", image, "b0");
      sh("qemu-io", "-f", "qcow2", "-c", "write -P 7 700M 64k", "-c", "write -z 5G 1M", image);
      const dirty = "qemu:dirty-bitmap:b0";
      const server = await start("qemu-nbd", dir, "-r", "-f", "qcow2", "-e", "16", "-B", "b0", image);
      const nbd = await pool(server, { bitmap: dirty });
      const whole = await pool(server, { bitmap: null });
      await collect(whole.extents());
      let full: NbdExtent[] = [];
      let incremental: NbdExtent[] = [];
      const list = async (): Promise<void> => {
        full = await collect(whole.extents());
        incremental = await collect(nbd.extents());
      };
      const calmest = await quietest(list);
      expect(full.length).toBeGreaterThan(200_000);
      expect(full).toEqual(statesOf(nbdinfoMap(server.socket, ALLOCATION, nbd.info.size), null));
      const granules = incremental.filter((extent) => extent.state !== "clean");
      expect(granules).toEqual([
        { offset: 700 * MiB, length: 65536, state: "data" },
        { offset: 5 * 1024 * MiB, length: MiB, state: "zero" },
      ]);
      console.log(`event loop delay while listing ${full.length} extents: p99 ${calmest.toFixed(1)} ms`);
      expect(calmest).toBeLessThan(eventLoopLimit());
    },
  );
});

describe("speed", () => {
  test("several connections and requests read faster than one at a time, and never hold the event loop", { timeout: 300_000 }, async () => {
    if (statfsSync("/dev/shm").bavail * statfsSync("/dev/shm").bsize < 3 * 2 ** 30) {
      console.log("skipped: /dev/shm has no room for a 2 GiB image");
      return;
    }
    const dir = scratch();
    const image = sh("mktemp", "-u", "/dev/shm/thinstream-nbd-XXXXXX").trim();
    clean.push(() => sh("rm", "-f", image));
    const file = openSync(image, "w");
    const chunk = pattern(16 * MiB);
    for (let at = 0; at < 2048 * MiB; at += chunk.length) writeSync(file, chunk, 0, chunk.length, at);
    closeSync(file);
    const server = await start("qemu-nbd", dir, "-r", "-f", "raw", "-e", "8", image);
    const size = 2048 * MiB;
    const alone = await NbdConnection.open({ socket: server.socket });
    const nbd = await pool(server);
    const reader = async (
      read: (requests: { offset: number; into: Uint8Array }[]) => Promise<void>,
      lanes: number,
      step: number,
    ): Promise<number> => {
      let next = 0;
      const began = performance.now();
      const lane = async (): Promise<void> => {
        const into = new Uint8Array(new SharedArrayBuffer(step));
        while (next < size) {
          const offset = next;
          next += step;
          await read([{ offset, into }]);
        }
      };
      await Promise.all(Array.from({ length: lanes }, lane));
      return size / MiB / ((performance.now() - began) / 1000);
    };
    const delays: ReturnType<typeof monitorEventLoopDelay>[] = [];
    const rates: [number, number][] = [];
    for (let round = 0; round < 3; round += 1) {
      const one = await reader((requests) => alone.readMany(requests), 1, 512 * 1024);
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      rates.push([one, await reader((requests) => nbd.read(requests), 4, 4 * MiB)]);
      delay.disable();
      delays.push(delay);
    }
    await alone.close();
    const middle = (values: number[]): number => values.toSorted((a, b) => a - b)[1] ?? 0;
    console.log(
      `one at a time ${middle(rates.map(([one]) => one)).toFixed(0)} MiB/s, pool ${middle(rates.map(([, all]) => all)).toFixed(0)} MiB/s, event loop delay p99 ${Math.max(...delays.map((delay) => delay.percentile(99) / 1e6)).toFixed(1)} ms, max ${Math.max(...delays.map((delay) => delay.max / 1e6)).toFixed(1)} ms`,
    );
    expect(middle(rates.map(([one, all]) => all / one))).toBeGreaterThan(0.5);
    const sum = createHash("sha256");
    const into = new Uint8Array(16 * MiB);
    await nbd.read([{ offset: 1024 * MiB, into }]);
    expect(sum.update(into).digest("hex")).toBe(createHash("sha256").update(chunk).digest("hex"));
  });
});
