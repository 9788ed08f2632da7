import { describe, expect, it } from "vitest";
import { CountingObjectStore, FaultyObjectStore, type FaultRule } from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { expectCode } from "../../contract/objectstore.ts";

async function outcomes(seed: number): Promise<string> {
  const store = new FaultyObjectStore(
    new MemoryObjectStore(),
    [{ probability: 0.5, fault: { kind: "error-before", code: "unavailable" } }],
    seed,
  );
  let result = "";
  for (let i = 0; i < 64; i++) {
    result += await store.put(`k${i}`, new Uint8Array(1)).then(
      () => ".",
      () => "x",
    );
  }
  return result;
}

describe("fault injection", () => {
  it("fails the same way for the same seed, otherwise for another", async () => {
    expect(await outcomes(7)).toBe(await outcomes(7));
    expect(await outcomes(7)).not.toBe(await outcomes(8));
    expect(await outcomes(7)).toMatch(/^(?=.*\.)(?=.*x)[.x]{64}$/);
  });

  it("picks calls by operation, key and ordinal, and records what it did", async () => {
    const rule: FaultRule = { operations: ["put"], key: /^packs\//, ordinals: [2], fault: { kind: "error-before", code: "no-space" } };
    const store = new FaultyObjectStore(new MemoryObjectStore(), [rule]);
    await store.put("other", new Uint8Array(1));
    await store.put("packs/1", new Uint8Array(1));
    await store.putIfAbsent("packs/2", new Uint8Array(1));
    await expectCode(store.put("packs/3", new Uint8Array(1)), "no-space");
    await store.put("packs/4", new Uint8Array(1));
    expect(store.injected).toEqual([{ operation: "put", key: "packs/3", fault: rule.fault }]);
  });

  it("fails before or after the deed", async () => {
    const memory = new MemoryObjectStore();
    const store = new FaultyObjectStore(memory, [
      { key: /^before/, fault: { kind: "error-before", code: "timeout" } },
      { key: /^after/, fault: { kind: "error-after", code: "timeout" } },
    ]);
    await expectCode(store.put("before", new Uint8Array(1)), "timeout");
    await expectCode(store.put("after", new Uint8Array(1)), "timeout");
    await expectCode(memory.stat("before"), "not-found");
    expect((await memory.stat("after")).size).toBe(1);
  });

  it("truncates bodies and listings without a word", async () => {
    const memory = new MemoryObjectStore();
    await memory.put("a", Buffer.from("12345678"));
    await memory.put("b", Buffer.from("12345678"));
    const store = new FaultyObjectStore(memory, [{ fault: { kind: "truncate", keep: 0.5 } }]);
    const into = Buffer.alloc(8, "x");
    await store.read("a", 0, into);
    expect(into.toString("latin1")).toBe("1234\0\0\0\0");
    expect(Buffer.from(await store.get("a")).toString()).toBe("1234");
    await store.put("c", Buffer.from("abcdef"));
    expect((await memory.stat("c")).size).toBe(3);
    const keys: string[] = [];
    for await (const object of store.list("")) keys.push(object.key);
    expect(keys).toEqual(["a"]);
  });
});

describe("counting", () => {
  it("counts calls and bytes, failed calls without bytes", async () => {
    const store = new CountingObjectStore(new MemoryObjectStore());
    await store.put("a", new Uint8Array(100));
    await store.putIfAbsent("b", new Uint8Array(10));
    await expectCode(store.putIfAbsent("b", new Uint8Array(10)), "already-exists");
    await store.get("a");
    await store.read("a", 90, new Uint8Array(5));
    await store.stat("a");
    await store.now();
    for await (const object of store.list("")) await store.delete(object.key);
    expect(store.counts).toEqual({ put: 1, putIfAbsent: 2, get: 1, read: 1, stat: 1, now: 1, lock: 0, list: 1, delete: 2 });
    expect([store.bytesUp, store.bytesDown]).toEqual([110, 105]);
  });

  it("counts a listing by its pages", async () => {
    const store = new CountingObjectStore(new MemoryObjectStore());
    await Promise.all(Array.from({ length: 2001 }, (_, i) => store.put(`k${i}`, new Uint8Array(0))));
    let seen = 0;
    for await (const object of store.list("")) seen += object.size + 1;
    expect([seen, store.counts.list]).toEqual([2001, 3]);
  });
});
