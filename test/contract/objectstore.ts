/* oxlint-disable vitest/expect-expect -- expectCode asserts */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ObjectStat, type ObjectStore, StoreError, type StoreErrorCode, probeStore } from "../../src/objectstore/index.ts";

/** An empty store, and what gives back its means. */
export interface StoreFixture {
  readonly store: ObjectStore;
  /** Another store over the same objects, as another process would have; absent where there can be none. */
  readonly other?: ObjectStore;
  /** What this server is known to do otherwise: it takes a key that was deleted in a bucket with versions for one that exists. */
  readonly remembersDeleted?: true;
  dispose(): Promise<void>;
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Bytes that differ from their neighbours in every page, so that a shifted or repeated part shows. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed * 2_654_435_761) >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export async function expectCode(promise: Promise<unknown>, code: StoreErrorCode): Promise<StoreError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  const storeError = error as StoreError;
  expect({ code: storeError.code, message: storeError.message }).toMatchObject({ code });
  return storeError;
}

async function keys(found: AsyncIterable<ObjectStat>): Promise<string[]> {
  const names: string[] = [];
  for await (const object of found) names.push(object.key);
  return names;
}

/** All the promises of `ObjectStore`, as tests of the stores that `open` makes, one for each test. */
export function objectStoreContract(name: string, open: () => Promise<StoreFixture>): void {
  describe(`object store contract: ${name}`, () => {
    let fixture: StoreFixture;
    let store: ObjectStore;
    beforeEach(async () => {
      fixture = await open();
      store = fixture.store;
    });
    afterEach(() => fixture.dispose());

    const context: Context = { store: () => store, other: () => fixture.other ?? store, fixture: () => fixture };
    describe("objects", () => {
      objects(context);
    });
    describe("ranges", () => {
      ranges(context);
    });
    describe("creation", () => {
      creation(context);
    });
    describe("listing", () => {
      listing(context);
    });
    describe("limits", () => {
      limits(context);
    });
    it("passes the probe and is left empty", async () => {
      await probeStore(store);
      expect(await keys(store.list(""))).toEqual([]);
    });
  });
}

interface Context {
  readonly store: () => ObjectStore;
  readonly other: () => ObjectStore;
  readonly fixture: () => StoreFixture;
}

function objects({ store, other }: Context): void {
  it("gives back what was put", async () => {
    for (const length of [0, 1, 1000, 65_536, 100_001]) {
      const body = pattern(length, length);
      await store().put(`a/b-${length}`, body);
      expect(Buffer.compare(await other().get(`a/b-${length}`), body)).toBe(0);
    }
  });

  it("keeps its own copy of a body", async () => {
    // A Buffer's own `slice` would be no copy.
    for (const body of [text("before"), Buffer.from("before")]) {
      await store().put("copy", body);
      body.fill(0);
      expect(new Uint8Array(await store().get("copy"))).toEqual(text("before"));
      (await store().get("copy")).fill(0);
      expect(new Uint8Array(await store().get("copy"))).toEqual(text("before"));
    }
  });

  it("stores and fills views of shared memory", async () => {
    const shared = new Uint8Array(new SharedArrayBuffer(300_000)).subarray(1000, 200_000);
    shared.set(pattern(shared.length, 7));
    await store().put("shared", shared);
    const into = new Uint8Array(new SharedArrayBuffer(shared.length + 10)).subarray(5, 5 + shared.length);
    await store().read("shared", 0, into);
    expect(Buffer.compare(into, pattern(shared.length, 7))).toBe(0);
  });

  it("replaces an object, for every reader", async () => {
    await store().put("k", text("one"));
    const into = new Uint8Array(3);
    await store().read("k", 0, into);
    await store().put("k", text("second"));
    expect(await store().get("k")).toEqual(text("second"));
    expect(await other().get("k")).toEqual(text("second"));
    await store().read("k", 3, into);
    expect(into).toEqual(text("ond"));
    expect((await store().stat("k")).size).toBe(6);
  });

  it("stores a 32 MiB object whole", async () => {
    const body = pattern(32 * 1024 * 1024, 3);
    await store().put("packs/big", body);
    expect((await store().stat("packs/big")).size).toBe(body.length);
    expect(Buffer.compare(await store().get("packs/big"), body)).toBe(0);
    const into = new Uint8Array(5_000_001);
    await store().read("packs/big", 20_000_003, into);
    expect(Buffer.compare(into, body.subarray(20_000_003, 25_000_004))).toBe(0);
  });

  it("tells size and time", async () => {
    const before = (await store().now()).getTime();
    await store().put("s", pattern(1234, 1));
    const object = await store().stat("s");
    expect(object.key).toBe("s");
    expect(object.size).toBe(1234);
    expect(Math.abs(object.modified.getTime() - before)).toBeLessThan(30_000);
    expect(Math.abs(before - Date.now())).toBeLessThan(60_000);
  });

  it("reports what is not there", async () => {
    await store().put("dir/leaf", text("x"));
    for (const key of ["none", "dir", "dir/none", "no/such/dir"]) {
      await expectCode(store().get(key), "not-found");
      await expectCode(store().read(key, 0, new Uint8Array(1)), "not-found");
      await expectCode(store().read(key, 0, new Uint8Array(0)), "not-found");
      await expectCode(store().stat(key), "not-found");
    }
  });

  it("deletes, and deletes nothing quietly", async () => {
    await store().put("d/x", text("x"));
    await store().read("d/x", 0, new Uint8Array(1));
    await store().delete("d/x");
    await expectCode(store().get("d/x"), "not-found");
    await expectCode(store().read("d/x", 0, new Uint8Array(1)), "not-found");
    await store().delete("d/x");
    await store().delete("never/there");
    await store().put("d/x", text("again"));
    expect(await other().get("d/x")).toEqual(text("again"));
  });

  it("serves many calls at once", async () => {
    const names = Array.from({ length: 40 }, (_, i) => `many/${i % 7}/${i}`);
    await Promise.all(names.map((key, i) => store().put(key, pattern(10_000 + i, i))));
    const bodies = await Promise.all(names.map((key) => store().get(key)));
    bodies.forEach((body, i) => expect(Buffer.compare(body, pattern(10_000 + i, i))).toBe(0));
  });
}

function ranges({ store }: Context): void {
  const body = pattern(1000, 5);
  beforeEach(() => store().put("r", body));

  it.each([
    [0, 1000],
    [0, 1],
    [999, 1],
    [1, 998],
    [500, 500],
    [0, 0],
    [1000, 0],
  ])("reads %i + %i", async (offset, length) => {
    const whole = new Uint8Array(length + 20).fill(0xee);
    await store().read("r", offset, whole.subarray(10, 10 + length));
    expect(Buffer.compare(whole.subarray(10, 10 + length), body.subarray(offset, offset + length))).toBe(0);
    expect([...whole.subarray(0, 10), ...whole.subarray(10 + length)].every((byte) => byte === 0xee)).toBe(true);
  });

  it.each([
    [0, 1001],
    [999, 2],
    [1000, 1],
    [1001, 0],
    [5000, 10],
    [-1, 1],
    [0.5, 1],
    [Number.NaN, 1],
    [2 ** 53, 1],
  ])("refuses %d + %i as out of range", async (offset, length) => {
    await expectCode(store().read("r", offset, new Uint8Array(length)), "out-of-range");
  });

  it("gives whole objects up to the limit only", async () => {
    expect((await store().get("r", { maxBytes: 1000 })).length).toBe(1000);
    await expectCode(store().get("r", { maxBytes: 999 }), "too-large");
    await store().put("empty", new Uint8Array(0));
    expect((await store().get("empty", { maxBytes: 0 })).length).toBe(0);
    await store().put("over", new Uint8Array(64 * 1024 * 1024 + 1));
    await expectCode(store().get("over"), "too-large");
  });
}

function creation({ store, other, fixture }: Context): void {
  it("creates once", async () => {
    await store().putIfAbsent("points/a", text("first"));
    await expectCode(store().putIfAbsent("points/a", text("first")), "already-exists");
    await expectCode(other().putIfAbsent("points/a", text("second")), "already-exists");
    expect(await other().get("points/a")).toEqual(text("first"));
    await store().delete("points/a");
    const again = other().putIfAbsent("points/a", text("third"));
    if (fixture().remembersDeleted === true) await expectCode(again, "already-exists");
    else expect(await again.then(() => store().get("points/a"))).toEqual(text("third"));
  });

  it("refuses a large second creation too", async () => {
    await store().putIfAbsent("large", text("first"));
    await expectCode(store().putIfAbsent("large", pattern(8 * 1024 * 1024, 2)), "already-exists");
    expect(await store().get("large")).toEqual(text("first"));
  });

  it.each([1, 2, 3])("lets one of 32 racers win (%i)", async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? store() : other()).putIfAbsent("race/x", text(`racer ${i}`))),
    );
    const winners = results.flatMap((result, i) => (result.status === "fulfilled" ? [i] : []));
    const codes = results.flatMap((result) => (result.status === "rejected" ? [(result.reason as StoreError).code] : []));
    expect(winners.length).toBe(1);
    expect(new Set(codes)).toEqual(new Set(["already-exists"]));
    expect(await store().get("race/x")).toEqual(text(`racer ${winners[0]}`));
    expect(await keys(store().list(""))).toEqual(["race/x"]);
  });
}

function listing({ store, other }: Context): void {
  const sample = ["a", "a-b/c", "a.b", "a0", "b/1", "b/10", "b/2/x", "b/2/y", "b/2-z", "b_", "c/d/e/f", "Z", "_u"];
  const sorted = sample.toSorted((x, y) => (x < y ? -1 : 1));
  const fill = (): Promise<unknown> => Promise.all(sample.map((key) => store().put(key, text(key))));

  it("lists in byte order of key, with sizes", async () => {
    await fill();
    const found: ObjectStat[] = [];
    for await (const object of other().list("")) found.push(object);
    expect(found.map((object) => object.key)).toEqual(sorted);
    expect(found.every((object) => object.size === object.key.length && Date.now() - object.modified.getTime() < 60_000)).toBe(true);
  });

  it("lists what begins with a prefix, after a key", async () => {
    await fill();
    const afters = [undefined, "A", "a", "a-", "a-b", "a-b/c", "b/", "b/1", "b/2", "b/2/", "b/2/x", "b/3", "b_", "zz"];
    for (const prefix of ["", "a", "a-", "b", "b/", "b/2", "b/2/", "b/2/x", "c/d/", "nothing", "nothing/at/all"]) {
      for (const after of afters) {
        const expected = sorted.filter((key) => key.startsWith(prefix) && (after === undefined || key > after));
        const found = await keys(store().list(prefix, after === undefined ? {} : { after }));
        expect({ prefix, after, found }).toEqual({ prefix, after, found: expected });
      }
    }
  });

  it("lists more than two thousand objects, and from the middle", async () => {
    const names = Array.from({ length: 2300 }, (_, i) => `p/${String((i * 7919) % 2300).padStart(5, "0")}`);
    for (let i = 0; i < names.length; i += 50) await Promise.all(names.slice(i, i + 50).map((key) => store().put(key, text(""))));
    const ordered = names.toSorted();
    expect(await keys(store().list("p/"))).toEqual(ordered);
    expect(await keys(store().list("p/", { pageSize: 333 }))).toEqual(ordered);
    expect(await keys(store().list("p/", { after: ordered[1299] ?? "" }))).toEqual(ordered.slice(1300));
  });

  it("may be left early and met by writes and deletions", async () => {
    await fill();
    for await (const object of store().list("")) {
      await store().delete(object.key);
      await store().put(`zz/${object.key}`, text("moved"));
      if (object.key === "b/1") break;
    }
    const left = await keys(store().list(""));
    expect(left.filter((key) => !key.startsWith("zz/"))).toEqual(sorted.filter((key) => key > "b/1"));
  });
}

function limits({ store }: Context): void {
  it.each([
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "../a",
    "a/./b",
    "a b",
    "ä",
    "a\\b",
    "a\0",
    "a\n",
    "💾",
    "a~",
    "~tmp/x",
    "a%2f",
    "x".repeat(513),
  ])("refuses the key %j", async (key) => {
    const into = new Uint8Array(1);
    const calls = [store().get(key), store().read(key, 0, into), store().put(key, into), store().putIfAbsent(key, into), store().stat(key)];
    for (const call of [...calls, store().delete(key)]) await expectCode(call, "invalid-key");
  });

  it.each(["/", "../", "a/../", "a//", "ä", "a b", "\0"])("refuses the prefix %j", async (prefix) => {
    await expectCode(keys(store().list(prefix)), "invalid-key");
  });

  it("takes keys of every allowed shape", async () => {
    const allowed = ["A-Z_a.z/0-9", "...", "-", "a/..b/c..", "x".repeat(255), `${"y/".repeat(200)}${"z".repeat(112)}`];
    for (const key of allowed) await store().put(key, text(key));
    expect(await keys(store().list(""))).toEqual(allowed.toSorted((x, y) => (x < y ? -1 : 1)));
    for (const key of allowed) expect(await store().get(key)).toEqual(text(key));
  });

  it("rejects with the reason of an aborted signal", async () => {
    await store().put("k", text("kk"));
    const reason = new Error("the caller has had enough");
    const signal = AbortSignal.abort(reason);
    const body = text("new");
    await expect(store().get("k", { signal })).rejects.toBe(reason);
    await expect(store().read("k", 0, new Uint8Array(1), { signal })).rejects.toBe(reason);
    await expect(store().put("k", body, { signal })).rejects.toBe(reason);
    await expect(store().putIfAbsent("n", body, { signal })).rejects.toBe(reason);
    await expect(store().stat("k", { signal })).rejects.toBe(reason);
    await expect(store().delete("k", { signal })).rejects.toBe(reason);
    await expect(store().now({ signal })).rejects.toBe(reason);
    await expect(keys(store().list("", { signal }))).rejects.toBe(reason);
    expect(await keys(store().list(""))).toEqual(["k"]);
    expect(await store().get("k")).toEqual(text("kk"));
  });

  it("stops or finishes a call that is aborted on its way, and works on", async () => {
    const body = pattern(16 * 1024 * 1024, 9);
    await store().put("k", body);
    for (const milliseconds of [0, 2, 10, 30]) {
      const reason = new Error(`aborted after ${milliseconds} ms`);
      const controller = new AbortController();
      const { signal } = controller;
      const calls = [
        store().put("p", body, { signal }),
        store().putIfAbsent(`c${milliseconds}`, body, { signal }),
        store().get("k", { signal }),
      ];
      setTimeout(() => controller.abort(reason), milliseconds);
      for (const result of await Promise.allSettled(calls)) if (result.status === "rejected") expect(result.reason).toBe(reason);
    }
    for await (const object of store().list("")) expect(object).toMatchObject({ size: body.length });
    await store().put("p", text("fine"));
    expect(await store().get("p")).toEqual(text("fine"));
  });

  it("ends a listing whose signal aborts", async () => {
    await Promise.all(["a", "b", "c"].map((key) => store().put(key, text(key))));
    const controller = new AbortController();
    const reason = new Error("enough");
    const seen: string[] = [];
    const consume = async (): Promise<void> => {
      for await (const object of store().list("", { signal: controller.signal })) {
        seen.push(object.key);
        controller.abort(reason);
      }
    };
    await expect(consume()).rejects.toBe(reason);
    expect(seen).toEqual(["a"]);
  });

  it("refuses everything once closed", async () => {
    await store().put("k", text("k"));
    await store().read("k", 0, new Uint8Array(1));
    await store().close();
    await store().close();
    const body = text("x");
    const calls = [store().get("k"), store().read("k", 0, body), store().put("k", body), store().putIfAbsent("q", body), store().stat("k")];
    for (const call of [...calls, store().delete("k"), store().now(), keys(store().list(""))]) await expectCode(call, "closed");
  });

  it("names itself by a URL", () => {
    expect(store().url).toMatch(/^(memory:|file:\/\/\/|s3:\/\/)/);
  });
}
