import { expect, test } from "vitest";

import { CountingObjectStore, FaultyObjectStore, requireConditionalWrites, RetryingObjectStore } from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { expectCode } from "../contract/objectstore.ts";

/** A store that takes every creation for a put. */
class ForgetfulStore extends MemoryObjectStore {
  override async putIfAbsent(...args: Parameters<MemoryObjectStore["put"]>): Promise<void> {
    await this.put(...args);
  }
}

async function keys(store: MemoryObjectStore): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list("")) found.push(key);
  return found;
}

test("creation only where there is none: proven with two requests the first time and one ever after, and one object stays", async () => {
  const memory = new MemoryObjectStore();
  const store = new CountingObjectStore(memory);
  for (const sent of [2, 3, 4]) {
    await requireConditionalWrites(store);
    expect(store.counts.putIfAbsent).toBe(sent);
  }
  expect(await keys(memory)).toEqual(["once"]);
  const shared = new MemoryObjectStore();
  const all = await Promise.allSettled(Array.from({ length: 8 }, async () => await requireConditionalWrites(shared)));
  expect(all.every(({ status }) => status === "fulfilled")).toBe(true);
});

test("a store that overwrites is refused, also where the object is there from better days", async () => {
  for (const there of [false, true]) {
    const store = new ForgetfulStore();
    if (there) await store.put("once", Buffer.from("from before"));
    await expectCode(requireConditionalWrites(store), "no-conditional-writes");
  }
});

test("an answer that is lost and a creation that is repeated are not taken for a store that overwrites", async () => {
  for (const ordinals of [[1], [2], [1, 2], [1, 3]]) {
    const memory = new MemoryObjectStore();
    const rules = [{ operations: ["putIfAbsent"] as const, ordinals, fault: { kind: "error-after", code: "unavailable" } as const }];
    const store = new RetryingObjectStore(new FaultyObjectStore(memory, rules), { baseDelay: 0.5, maxDelay: 2 });
    await requireConditionalWrites(store);
    await requireConditionalWrites(store);
    expect(await keys(memory)).toEqual(["once"]);
  }
});

test("whatever else the store says is passed on", async () => {
  const rules = [{ fault: { kind: "error-before", code: "access-denied" } as const }];
  await expectCode(requireConditionalWrites(new FaultyObjectStore(new MemoryObjectStore(), rules)), "access-denied");
});
