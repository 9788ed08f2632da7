import { describe, expect, it } from "vitest";
import {
  examineStore,
  type Examination,
  isUsable,
  type ListOptions,
  type ObjectStat,
  plainTrials,
  StoreError,
} from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";

const { signal } = new AbortController();
const examine = async (store: MemoryObjectStore): Promise<Examination> => await examineStore(store, plainTrials, { signal });

/** What is not `ok`, as `check: state`. */
function amiss({ findings }: Examination): string[] {
  return findings.filter(({ state }) => state !== "ok").map(({ check, state }) => `${check}: ${state}`);
}

/** A bucket that knows no conditions and says nothing of it. */
class Unconditional extends MemoryObjectStore {
  override async putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    await this.put(key, body);
  }
}

/** Looks first, then writes: right until two come at once. */
class Racy extends MemoryObjectStore {
  override async putIfAbsent(key: string, body: Uint8Array): Promise<void> {
    const there = await this.stat(key).then(
      () => true,
      () => false,
    );
    if (there) throw new StoreError("already-exists", `object ${key} exists already`);
    await this.put(key, body);
  }
}

class LateLists extends MemoryObjectStore {
  override async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectStat, void, undefined> {
    let held: ObjectStat | null = null;
    for await (const object of super.list(prefix, options)) {
      if (held !== null) yield held;
      held = object;
    }
  }
}

/** Answers for what was not there stay for a while. */
class NegativeCache extends MemoryObjectStore {
  readonly #missing = new Set<string>();

  override async get(key: string): Promise<Uint8Array> {
    if (this.#missing.has(key)) throw new StoreError("not-found", `no object ${key}`);
    return await super.get(key).catch((thrown: unknown) => {
      this.#missing.add(key);
      throw thrown;
    });
  }
}

class Careless extends MemoryObjectStore {
  override async get(key: string): Promise<Uint8Array> {
    const bytes = await super.get(key);
    if (bytes.length > 1024 * 1024) bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    return bytes;
  }

  override async read(key: string, offset: number, into: Uint8Array): Promise<void> {
    await super.read(key, Math.max(0, offset - 1), into);
  }
}

class Slow extends MemoryObjectStore {
  override async now(): Promise<Date> {
    return new Date(Date.now() - 7 * 60_000);
  }
}

class WriterOnly extends MemoryObjectStore {
  override async delete(key: string): Promise<void> {
    throw new StoreError("access-denied", `cannot delete ${key}`);
  }
}

describe("the test of a store", () => {
  it("finds nothing amiss with one that keeps its promises, leaves nothing, and says how fast it was", async () => {
    const store = new MemoryObjectStore();
    const examination = await examine(store);
    expect([amiss(examination), isUsable(examination), examination.leftovers]).toEqual([[], true, []]);
    expect(examination.findings.length).toBe(12);
    expect(Object.values(examination.figures).every((value) => value !== null && value > 0)).toBe(true);
    for await (const { key } of store.list("")) expect.unreachable(key);
  });

  it.each([
    ["no conditional writes", new Unconditional(), ["create only if absent: missing", "create, raced by 32: wrong"]],
    ["a look before each creation", new Racy(), ["create, raced by 32: wrong"]],
    [
      "lists that lag",
      new LateLists(),
      ["list in order, in pages: wrong", "list after write: wrong", "keys as the format has them: wrong"],
    ],
    ["remembered absence", new NegativeCache(), ["read after write: wrong"]],
    ["wrong bytes", new Careless(), ["read a range: wrong", "an object of 64 MiB: wrong"]],
    ["a clock that is wrong", new Slow(), ["clock: wrong"]],
  ])("tells %s", async (_what, store, expected) => {
    const examination = await examine(store);
    expect(amiss(examination)).toEqual(expected);
    expect(isUsable(examination)).toBe(false);
  });

  it("takes a writer that may not delete for a good one, and says what stays behind", async () => {
    const examination = await examine(new WriterOnly());
    expect(amiss(examination)).toEqual(["delete: not-allowed", "create again what was deleted: not-allowed"]);
    expect(isUsable(examination)).toBe(true);
    expect(examination.findings.find(({ check }) => check === "delete")?.means).toMatch(/^good for a writer/);
    expect(examination.leftovers).toMatchObject([{ objects: expect.any(Number) as number }]);
  });

  it("rejects where nobody answers, and ends with its signal", async () => {
    class Gone extends MemoryObjectStore {
      override async put(): Promise<void> {
        throw new StoreError("unavailable", "nobody answers");
      }
    }
    await expect(examine(new Gone())).rejects.toThrow("nobody answers");
    const controller = new AbortController();
    const store = new MemoryObjectStore();
    const reason = new Error("enough");
    const ended = examineStore(store, plainTrials, { signal: controller.signal, onFinding: () => controller.abort(reason) });
    await expect(ended).rejects.toBe(reason);
    for await (const { key } of store.list("")) expect.unreachable(key);
  });
});
