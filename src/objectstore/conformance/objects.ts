import { randomBytes } from "node:crypto";
import { mapConcurrently } from "../../lib/concurrency.ts";
import { StoreError } from "../errors.ts";
import { type Check, ok, seen, type Trial, wrong } from "./check.ts";

const PARALLEL = 8;
const ROUNDS = 16;
const SMALL = 4096;
/** Further apart than this the two clocks disagree; S3 refuses requests that are signed a quarter of an hour off. */
const SKEW_MS = 5 * 60_000;

export const writeAndRead: Check = {
  name: "write, read, overwrite",
  need: "required",
  means: { ok: "objects come back as they were written", otherwise: "no repository can be kept here" },
  async run({ store, prefix, signal, measure }) {
    const key = `${prefix}object`;
    const latencies = { put: [] as number[], get: [] as number[] };
    for (let round = 0; round < ROUNDS; round++) {
      const body = randomBytes(SMALL);
      latencies.put.push(await timed(() => store.put(key, body, { signal })));
      let back: Uint8Array = new Uint8Array(0);
      latencies.get.push(await timed(async () => (back = await store.get(key, { signal }))));
      if (!body.equals(back)) return wrong("other bytes came back than were written");
    }
    measure("putLatency", median(latencies.put));
    measure("getLatency", median(latencies.get));
    return ok;
  },
};

export const readRange: Check = {
  name: "read a range",
  need: "required",
  means: { ok: "a restore reads what it needs of a pack", otherwise: "nothing can be restored from packs" },
  async run({ store, prefix, signal }) {
    const key = `${prefix}range`;
    const body = randomBytes(100_000);
    await store.put(key, body, { signal });
    for (const [offset, length] of [
      [0, 1],
      [1, 65_536],
      [99_999, 1],
      [50_000, 50_000],
    ] as const) {
      const into = Buffer.alloc(length);
      await store.read(key, offset, into, { signal });
      if (!into.equals(body.subarray(offset, offset + length))) return wrong(`bytes ${offset} to ${offset + length} are others`);
    }
    const beyond = await codeOf(store.read(key, 99_999, Buffer.alloc(2), { signal }));
    return beyond === "out-of-range" ? ok : wrong(`a range beyond the end was answered with ${beyond ?? "success"}`);
  },
};

export const readAfterWrite: Check = {
  name: "read after write",
  need: "required",
  means: { ok: "what is written is there for everybody at once", otherwise: "a backup could not see its own point" },
  async run({ store, prefix, signal }) {
    const stale = await mapConcurrently(keys(`${prefix}fresh/`, ROUNDS), PARALLEL, async (key) => {
      // Asked for before it is there: some stores remember the answer.
      if ((await codeOf(store.get(key, { signal }))) !== "not-found") return true;
      for (const text of ["first", "second, and longer"]) {
        await store.put(key, Buffer.from(text), { signal });
        if (Buffer.from(await store.get(key, { signal })).toString() !== text) return true;
      }
      return false;
    });
    const count = stale.filter(Boolean).length;
    return count === 0 ? ok : wrong(`${count} of ${ROUNDS} objects were read as they were before`);
  },
};

export const listPages: Check = {
  name: "list in order, in pages",
  need: "required",
  means: { ok: "restore points are found", otherwise: "restore points would be overlooked" },
  async run({ store, prefix, signal }) {
    const names = keys(`${prefix}list/`, 25);
    await mapConcurrently(names.toReversed(), PARALLEL, async (key) => await store.put(key, Buffer.from(key), { signal }));
    const [all, rest] = [await listed(store, `${prefix}list/`, { pageSize: 4, signal }), names.slice(13)];
    if (!same(all, names)) return wrong(`${all.length} of ${names.length} objects were listed, four at a time`);
    const after = names[12] ?? "";
    const found = await listed(store, `${prefix}list/`, { pageSize: 5, after, signal });
    return same(found, rest) ? ok : wrong(`${found.length} of ${rest.length} objects were listed from the middle on`);
  },
};

export const listAfterWrite: Check = {
  name: "list after write",
  need: "required",
  means: { ok: "a new point is on the list at once", otherwise: "prune could overlook a new point and remove its data" },
  async run({ store, prefix, signal }) {
    for (const [i, key] of keys(`${prefix}new/`, ROUNDS).entries()) {
      await store.put(key, Buffer.from("x"), { signal });
      if ((await listed(store, `${prefix}new/`, { signal })).length !== i + 1) return wrong("an object just written was not listed");
    }
    return ok;
  },
};

export const keyShapes: Check = {
  name: "keys as the format has them",
  need: "required",
  means: { ok: "every object has its place", otherwise: "objects of a repository could not be stored or found" },
  async run({ store, prefix, signal }) {
    const shapes = [
      "A-Z_a.z/0-9",
      "a-b",
      "a.b/c",
      "a/b",
      "packs/0123abcd/ab/" + "ab".repeat(16),
      "points/0123456789ab/0000000001",
      "x".repeat(200),
    ];
    const wanted = shapes.map((shape) => `${prefix}keys/${shape}`);
    for (const key of wanted) await store.put(key, Buffer.from(key), { signal });
    for (const key of wanted) {
      if (Buffer.from(await store.get(key, { signal })).toString() !== key) return wrong(`another object came for ${key}`);
    }
    const found = await listed(store, `${prefix}keys/`, { signal });
    return same(
      found,
      wanted.toSorted((a, b) => (a < b ? -1 : 1)),
    )
      ? ok
      : wrong("they are not listed by the order of their bytes");
  },
};

export const clock: Check = {
  name: "clock",
  need: "required",
  means: { ok: "points and prune go by the store's clock", otherwise: "the time of points cannot be trusted" },
  async run({ store, signal }) {
    const before = Date.now();
    const there = (await store.now({ signal })).getTime();
    // S3 tells whole seconds.
    const skew = Math.round((there - (before + Date.now()) / 2) / 1000);
    if (!Number.isFinite(skew)) return wrong("its answers do not tell the time");
    const said = Math.abs(skew) <= 1 ? "as this machine's" : `${Math.abs(skew)} s ${skew > 0 ? "ahead of" : "behind"} this machine's`;
    return Math.abs(skew) * 1000 > SKEW_MS ? wrong(`${said}: set whichever is wrong`) : seen(said);
  },
};

export const remove: Check = {
  name: "delete",
  need: "optional",
  means: {
    ok: "these credentials can prune and release holds; those of writers should not be able to",
    otherwise: "nothing can be pruned",
    notAllowed: "good for a writer; prune and the release of holds need other credentials",
  },
  async run({ store, prefix, signal }) {
    const key = `${prefix}doomed`;
    await store.put(key, Buffer.from("x"), { signal });
    await store.delete(key, { signal });
    const code = await codeOf(store.get(key, { signal }));
    if (code !== "not-found") return wrong("an object that was deleted could still be read");
    const left = await listed(store, key, { signal });
    return left.length === 0 ? ok : wrong("an object that was deleted is still listed");
  },
};

/** The code a call fails with; null where it does not. */
export async function codeOf(call: Promise<unknown>): Promise<string | null> {
  return await call.then(
    () => null,
    (thrown: unknown) => {
      if (thrown instanceof StoreError && thrown.code !== "access-denied") return thrown.code;
      throw thrown;
    },
  );
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

function keys(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${String(i).padStart(3, "0")}`);
}

async function listed(store: Trial["store"], prefix: string, options: Parameters<Trial["store"]["list"]>[1]): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list(prefix, options)) found.push(key);
  return found;
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((key, i) => key === b[i]);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
