import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { refusalError } from "../../src/kube/answer-error.ts";
import { EventSeries } from "../../src/kube/event-series.ts";
import { keyOf, refOf } from "../../src/kube/index.ts";
import { splitLines } from "../../src/kube/lines.ts";
import { mergePatch } from "../../src/kube/merge-patch.ts";
import { ObjectCache } from "../../src/kube/object-cache.ts";
import { RateLimiter } from "../../src/kube/rate-limiter.ts";
import { StringPool } from "../../src/kube/string-pool.ts";

describe("lines of a stream", () => {
  const line = fc.string({ unit: "grapheme", maxLength: 20 }).map((text) => text.replaceAll("\n", ""));

  test("come out whole however the stream is cut, and what has no end does not", async () => {
    const property = fc.asyncProperty(
      fc.array(line),
      line,
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      async (lines, rest, cuts) => {
        const bytes = Buffer.from([...lines, rest].join("\n"));
        async function* chunks(): AsyncGenerator<Uint8Array> {
          for (let at = 0; at < bytes.length;) {
            const size = await Promise.resolve(cuts.next().value);
            yield bytes.subarray(at, at + size);
            at += size;
          }
        }
        const found: string[] = [];
        for await (const one of splitLines(chunks(), 1000)) found.push(one);
        expect(found).toEqual(lines.filter((text) => text !== ""));
      },
    );
    await fc.assert(property);
  });

  test("have a bound, with and without an end", async () => {
    for (const text of ["x".repeat(101), `${"x".repeat(101)}\n`]) {
      const bytes = Buffer.from(text);
      const chunks = [bytes.subarray(0, 60), bytes.subarray(60)].values();
      const lines = splitLines(chunks as unknown as AsyncIterable<Uint8Array>, 100);
      await expect(lines.next()).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("100 bytes") as string });
    }
  });
});

describe("a merge patch", () => {
  /** RFC 7396, word for word. */
  function apply(target: unknown, patch: unknown): unknown {
    if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
    const isMap = typeof target === "object" && target !== null && !Array.isArray(target);
    const result: Record<string, unknown> = isMap ? { ...target } : {};
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete result[name];
      else result[name] = apply(result[name], value);
    }
    return result;
  }
  // Objects in the API have no nulls, and no one means `__proto__`.
  const leaf = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.boolean(),
    fc.array(fc.dictionary(fc.constantFrom("p", "q"), fc.nat(2)), { maxLength: 3 }),
  );
  const tree = fc.letrec<{ node: unknown; map: unknown }>((tie) => ({
    node: fc.oneof({ depthSize: "small" }, leaf, tie("map")),
    map: fc.dictionary(fc.constantFrom("a", "b", "c"), tie("node")),
  })).map;

  test("makes the one of the other, and is nothing where they are the same", () => {
    fc.assert(
      fc.property(tree, tree, (from, to) => {
        const patch = mergePatch(from, to);
        expect(patch === undefined ? from : apply(from, patch)).toEqual(to);
        expect(mergePatch(to, structuredClone(to))).toBeUndefined();
      }),
    );
  });

  test("takes undefined for missing", () => {
    expect(mergePatch({ a: undefined }, { b: undefined })).toBeUndefined();
    expect(mergePatch({ a: 1 }, { a: undefined })).toEqual({ a: null });
    expect(mergePatch({ list: [{ a: 1, b: undefined }] }, { list: [{ a: 1 }] })).toBeUndefined();
  });
});

describe("a cache", () => {
  const object = fc.record({
    name: fc.constantFrom("a", "b", "c", "d"),
    size: fc.nat(3),
    tags: fc.uniqueArray(fc.constantFrom("x", "y", "z")),
  });
  const step = fc.oneof(object, fc.constantFrom("a", "b", "c", "d"));
  const made = ({ name, size, tags }: { name: string; size: number; tags: string[] }) => {
    return { apiVersion: "v1", kind: "Thing", metadata: { name, namespace: "n" }, size, tags };
  };

  test("has every index as if it were looked for one by one", () => {
    fc.assert(
      fc.property(fc.array(step), (story) => {
        const cache = new ObjectCache<ReturnType<typeof made>>({ size: ({ size }) => [String(size)], tag: ({ tags }) => tags });
        const plain = new Map<string, ReturnType<typeof made>>();
        for (const one of story) {
          const key = `n/${typeof one === "string" ? one : one.name}`;
          const before = plain.get(key);
          if (typeof one === "string") {
            expect(cache.delete(key)).toBe(before);
            plain.delete(key);
          } else {
            const kept = made(one);
            expect(cache.set(kept)).toBe(before);
            plain.set(key, kept);
          }
        }
        expect(new Set(cache.list())).toEqual(new Set(plain.values()));
        const all = [...plain.values()];
        for (const tag of ["x", "y", "z"])
          expect(new Set(cache.byIndex("tag", tag))).toEqual(new Set(all.filter(({ tags }) => tags.includes(tag))));
        expect(new Set(cache.indexValues("size"))).toEqual(new Set(all.map(({ size }) => String(size))));
      }),
    );
    expect(() => new ObjectCache().byIndex("none", "a")).toThrow(RangeError);
  });

  test("knows objects by keys that can be read back", () => {
    expect([keyOf(made({ name: "a", size: 0, tags: [] })), refOf("n/a"), refOf("a")]).toEqual([
      "n/a",
      { namespace: "n", name: "a" },
      { name: "a" },
    ]);
  });
});

test("a pool of strings leaves every document as it was", () => {
  const pool = new StringPool();
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value);
      expect(JSON.stringify(pool.share(JSON.parse(text)))).toBe(text);
    }),
    // Enough for more strings than it remembers.
    { numRuns: 2000 },
  );
});

describe("the rate of requests", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test("is a burst, then so many a second, the normal lane first, the low lane never the last of the burst", async () => {
    const limiter = new RateLimiter({ qps: 10, burst: 10 });
    const passed: string[] = [];
    const pass = (lane: "urgent" | "normal" | "low"): void => void limiter.take(lane).then(() => passed.push(lane));
    for (let times = 0; times < 20; times += 1) pass("low");
    await vi.advanceTimersByTimeAsync(0);
    expect(passed).toHaveLength(5);
    for (let times = 0; times < 7; times += 1) pass("normal");
    await vi.advanceTimersByTimeAsync(0);
    expect(passed.slice(5)).toEqual(Array.from({ length: 5 }, () => "normal"));
    await vi.advanceTimersByTimeAsync(250);
    expect(passed.slice(10)).toEqual(["normal", "normal"]);
    for (const lane of ["low", "normal", "urgent"] as const) pass(lane);
    await vi.advanceTimersByTimeAsync(200);
    expect(passed.splice(12)).toEqual(["urgent", "normal"]);
    await vi.advanceTimersByTimeAsync(2500);
    expect(passed.slice(12).length).toBeGreaterThanOrEqual(15);
    expect(new Set(passed.slice(12))).toEqual(new Set(["low"]));
    expect(limiter.waiting("low")).toBe(0);
  });

  test("takes nothing from who leaves the line", async () => {
    const limiter = new RateLimiter({ qps: 1, burst: 1 });
    await limiter.take("normal");
    const leaver = new AbortController();
    const left = limiter.take("normal", leaver.signal).catch((thrown: unknown) => thrown);
    const stays = limiter.take("normal").then(() => performance.now());
    const since = performance.now();
    leaver.abort("no");
    expect(await left).toBe("no");
    await vi.advanceTimersByTimeAsync(1100);
    expect((await stays) - since).toBeLessThanOrEqual(1001);
    expect(() => new RateLimiter({ qps: 0, burst: 1 })).toThrow(RangeError);
  });
});

test("a series of events is written at its first, its second, and once a minute from then on", () => {
  const series = new EventSeries();
  const event = {
    metadata: { name: "e", namespace: "n" },
    type: "Normal",
    reason: "R",
    action: "A",
    note: "n",
    regarding: { kind: "K", name: "o", uid: "u" },
  };
  const minute = 60_000;
  const said = [0, 1000, 2000, 30_000, minute + 2000, 2 * minute, 9 * minute].map((now) => {
    const write = series.next(event, now);
    return typeof write === "string" ? write : write.count;
  });
  expect(said).toEqual([1, 2, "quiet", "quiet", 5, "quiet", 1]);
});

test.each([
  [
    { status: 429, body: "slow down", retryAfter: "7" },
    { code: "too-many-requests", retryAfterMs: 7000 },
  ],
  [
    { status: 503, body: "<html>no backend</html>" },
    { code: "unavailable", message: "cannot x: <html>no backend</html>" },
  ],
  [
    { status: 500, body: "" },
    { code: "unavailable", message: "cannot x: the server gave no reason (HTTP 500)" },
  ],
  [
    { status: 504, body: { details: { causes: [{ reason: "ResourceVersionTooLarge" }], retryAfterSeconds: 1 } } },
    { code: "gone", retryAfterMs: 1000 },
  ],
  [{ status: 413, body: "" }, { code: "invalid" }],
  [{ status: 302, body: "" }, { code: "unavailable" }],
  [
    { status: 409, body: { reason: "AlreadyExists", message: "a\nb" } },
    { code: "already-exists", message: "cannot x: a b" },
  ],
  [
    { status: 400, body: "[1,null" },
    { code: "invalid", causes: [] },
  ],
])("an answer is told as what it is: %j", (refusal, error) => {
  expect(refusalError("x", refusal)).toMatchObject(error);
});
