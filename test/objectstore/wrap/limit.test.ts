import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { FaultyObjectStore, LimitedObjectStore } from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";

/** Counts how many puts are inside at once. */
class Meter extends MemoryObjectStore {
  inside = 0;
  most = 0;

  override async put(): Promise<void> {
    this.inside++;
    this.most = Math.max(this.most, this.inside);
    await sleep(5);
    this.inside--;
  }
}

describe("limit", () => {
  it("lets so many calls in at once and no more, and uses what it allows", async () => {
    const meter = new Meter();
    const store = new LimitedObjectStore(meter, { concurrency: 3 });
    await Promise.all(Array.from({ length: 20 }, (_, i) => store.put(`k${i}`, new Uint8Array(1))));
    expect(meter.most).toBe(3);
  });

  it("lets a waiting call be aborted, and passes its turn on", async () => {
    const store = new LimitedObjectStore(
      new FaultyObjectStore(new MemoryObjectStore(), [{ ordinals: [1], fault: { kind: "delay", milliseconds: 60 } }]),
      {
        concurrency: 1,
      },
    );
    const first = store.put("a", new Uint8Array(1));
    const controller = new AbortController();
    const reason = new Error("left the queue");
    const second = store.put("b", new Uint8Array(1), { signal: controller.signal });
    const third = store.put("c", new Uint8Array(1));
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    await Promise.all([first, third]);
    expect((await store.stat("c")).size).toBe(1);
  });

  it("lets the consumer of a listing use the store", async () => {
    const store = new LimitedObjectStore(new MemoryObjectStore(), { concurrency: 1 });
    for (const key of ["a", "b", "c"]) await store.put(key, new Uint8Array(1));
    let seen = 0;
    for await (const object of store.list("")) seen += (await store.get(object.key)).length;
    expect(seen).toBe(3);
  });

  it("holds the rate of uploads and of downloads", async () => {
    const store = new LimitedObjectStore(new MemoryObjectStore(), { concurrency: 4, uploadRate: 1_000_000, downloadRate: 2_000_000 });
    const start = performance.now();
    await Promise.all([1, 2, 3, 4, 5, 6].map((n) => store.put(`k${n}`, new Uint8Array(100_000))));
    const uploaded = performance.now();
    await Promise.all([1, 2, 3, 4, 5, 6].map((n) => store.get(`k${n}`)));
    await Promise.all([1, 2, 3, 4, 5, 6].map((n) => store.read(`k${n}`, 0, new Uint8Array(100_000))));
    const downloaded = performance.now();
    // 600 kB at 1 MB/s, then 1.2 MB at 2 MB/s, less what a quarter second saves up.
    expect(uploaded - start).toBeGreaterThan(340);
    expect(downloaded - uploaded).toBeGreaterThan(340);
  });

  it("rejects a call aborted while it pays for its bytes", async () => {
    const store = new LimitedObjectStore(new MemoryObjectStore(), { concurrency: 4, uploadRate: 1 });
    const reason = new Error("too slow");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 20);
    await expect(store.put("k", new Uint8Array(1000), { signal: controller.signal })).rejects.toBe(reason);
  });
});
