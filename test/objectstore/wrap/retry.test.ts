/* oxlint-disable vitest/expect-expect -- expectCode asserts */
import { describe, expect, it } from "vitest";
import {
  CountingObjectStore,
  type FaultRule,
  FaultyObjectStore,
  type RetryEvent,
  type RetryOptions,
  RetryingObjectStore,
} from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { expectCode } from "../../contract/objectstore.ts";

const body = (text: string): Buffer => Buffer.from(text);
const quick = { baseDelay: 0.5, maxDelay: 2 };

interface Stack {
  readonly store: RetryingObjectStore;
  readonly counting: CountingObjectStore;
  readonly memory: MemoryObjectStore;
}

function stack(rules: readonly FaultRule[], options: RetryOptions = quick): Stack {
  const memory = new MemoryObjectStore();
  const counting = new CountingObjectStore(new FaultyObjectStore(memory, rules));
  return { store: new RetryingObjectStore(counting, options), counting, memory };
}

describe("retry", () => {
  it("repeats what may pass later, and tells of it", async () => {
    const events: RetryEvent[] = [];
    const rules: FaultRule[] = [{ ordinals: [1, 2, 3], fault: { kind: "error-before", code: "unavailable" } }];
    const { store, counting } = stack(rules, { ...quick, onRetry: (event) => events.push(event) });
    await store.put("k", body("x"));
    expect(counting.counts.put).toBe(4);
    expect(events.map(({ doing, attempt, error }) => [doing, attempt, error.code])).toEqual(
      [1, 2, 3].map((n) => ["put k", n, "unavailable"]),
    );
    expect(events.every(({ delay, attempt }) => delay >= 0 && delay <= Math.min(2, 0.5 * 2 ** (attempt - 1)))).toBe(true);
  });

  it("does not repeat what cannot pass", async () => {
    for (const code of ["access-denied", "no-space", "not-found", "failed", "bucket-missing"] as const) {
      const { store, counting } = stack([{ fault: { kind: "error-before", code } }]);
      await expectCode(store.put("k", body("x")), code);
      expect(counting.counts.put).toBe(1);
    }
  });

  it("gives up after its attempts, saying how many", async () => {
    const { store, counting } = stack([{ fault: { kind: "error-before", code: "unavailable" } }], { ...quick, attempts: 5 });
    const error = await expectCode(store.get("k"), "unavailable");
    expect(error.message).toContain("5 times");
    expect(counting.counts.get).toBe(5);
  });

  it("gives up when its time is over, between attempts and within one", async () => {
    const { store } = stack([{ fault: { kind: "error-before", code: "unavailable" } }], {
      attempts: 1e6,
      baseDelay: 20,
      maxDelay: 20,
      totalTime: 150,
    });
    expect((await expectCode(store.get("k"), "timeout")).message).toContain("within 0.15 s");
    const { store: slow } = stack([{ fault: { kind: "delay", milliseconds: 60_000 } }], { totalTime: 50 });
    await expectCode(slow.put("k", body("x")), "timeout");
    await expectCode(slow.list("")[Symbol.asyncIterator]().next(), "timeout");
  });

  it("stops in a pause when the caller aborts, with the caller's reason", async () => {
    const { store } = stack([{ fault: { kind: "error-before", code: "unavailable" } }], {
      baseDelay: 1e9,
      maxDelay: 1e9,
      totalTime: 60_000,
    });
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 30);
    await expect(store.stat("k", { signal: controller.signal })).rejects.toBe(reason);
  });

  it("knows its own creation after a lost answer", async () => {
    const { store, counting, memory } = stack([
      { operations: ["putIfAbsent"], ordinals: [1], fault: { kind: "error-after", code: "timeout" } },
    ]);
    await store.putIfAbsent("k", body("mine"));
    expect(counting.counts).toMatchObject({ putIfAbsent: 2, get: 1 });
    expect(Buffer.from(await memory.get("k")).toString()).toBe("mine");
  });

  it("knows its own creation when the look at it fails too", async () => {
    const { store } = stack([
      { operations: ["putIfAbsent"], ordinals: [1], fault: { kind: "error-after", code: "timeout" } },
      { operations: ["get"], ordinals: [1, 2], fault: { kind: "error-before", code: "unavailable" } },
    ]);
    await store.putIfAbsent("k", body("mine"));
  });

  it.each(["same", "other, longer than mine", ""])("does not take another's creation for its own (%j)", async (theirs) => {
    const { store, memory } = stack([{ operations: ["putIfAbsent"], ordinals: [1], fault: { kind: "error-before", code: "timeout" } }]);
    await memory.putIfAbsent("k", body(theirs));
    await expectCode(store.putIfAbsent("k", body("mine")), "already-exists");
  });

  it("looks for a large creation before it sends it again", async () => {
    const large = Buffer.alloc(2 * 1024 * 1024, 7);
    const lost = stack([{ operations: ["putIfAbsent"], ordinals: [1], fault: { kind: "error-after", code: "timeout" } }]);
    await lost.store.putIfAbsent("k", large);
    expect(lost.counting.counts).toMatchObject({ putIfAbsent: 1, stat: 1, get: 1 });
    // As a server does that cuts the connection of every creation it refuses.
    const cut = stack([{ operations: ["putIfAbsent"], fault: { kind: "error-before", code: "unavailable" } }]);
    await cut.memory.putIfAbsent("k", body("theirs"));
    await expectCode(cut.store.putIfAbsent("k", large), "already-exists");
    expect(cut.counting.counts).toMatchObject({ putIfAbsent: 1, stat: 1 });
    await expectCode(cut.store.putIfAbsent("other", large), "unavailable");
  });

  it("asks no second question when the first answer is clear", async () => {
    const { store, counting, memory } = stack([]);
    await memory.putIfAbsent("k", body("mine"));
    await expectCode(store.putIfAbsent("k", body("mine")), "already-exists");
    expect(counting.counts).toMatchObject({ putIfAbsent: 1, get: 0 });
  });

  it("goes on with a broken listing where it broke", async () => {
    const { store, counting, memory } = stack([
      { operations: ["list"], ordinals: [1, 2, 3, 4], fault: { kind: "error-after", code: "unavailable" } },
    ]);
    const keys = ["a", "b", "c", "d", "e", "f"];
    for (const key of keys) await memory.put(key, body(key));
    const found: string[] = [];
    for await (const object of store.list("")) found.push(object.key);
    expect(found).toEqual(keys);
    expect(counting.counts.list).toBe(5);
  });
});
