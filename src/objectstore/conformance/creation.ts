import { randomBytes } from "node:crypto";
import { StoreError } from "../errors.ts";
import { type Check, missing, ok, seen, wrong } from "./check.ts";
import { codeOf, timed } from "./objects.ts";

const RACERS = 32;
const RACES = 3;
const BIG = 64 * 1024 * 1024;

const refused = "refused at `init` and at every backup: two backups could overwrite each other's point";

export const createOnce: Check = {
  name: "create only if absent",
  need: "required",
  means: { ok: "a restore point is committed once, by whoever is first", otherwise: refused },
  async run({ store, prefix, signal }) {
    const key = `${prefix}once`;
    await store.putIfAbsent(key, Buffer.from("first"), { signal });
    const code = await codeOf(store.putIfAbsent(key, Buffer.from("second"), { signal }));
    if (code === null) return missing("a second creation with If-None-Match: * was accepted");
    const kept = Buffer.from(await store.get(key, { signal })).toString() === "first";
    return kept ? ok : wrong("the second creation was refused, and overwrote the first");
  },
};

export const createRaced: Check = {
  name: `create, raced by ${RACERS}`,
  need: "required",
  means: { ok: "of any number of creators exactly one wins", otherwise: "two backups could both believe that they committed one point" },
  async run({ store, prefix, signal }) {
    for (let race = 0; race < RACES; race++) {
      const key = `${prefix}race/${race}`;
      const results = await Promise.allSettled(
        Array.from({ length: RACERS }, async (_, i) => await store.putIfAbsent(key, Buffer.from(`racer ${i}`), { signal })),
      );
      const winners = results.flatMap((result, i) => (result.status === "fulfilled" ? [i] : []));
      const stray = results.find((result) => result.status === "rejected" && !isExisting(result.reason));
      if (stray?.status === "rejected") throw stray.reason;
      if (winners.length !== 1) return wrong(`${winners.length} of ${RACERS} creators of one key were told that they had succeeded`);
      const kept = Buffer.from(await store.get(key, { signal })).toString();
      if (kept !== `racer ${winners[0]}`) return wrong("the object is not that of the creator who was told that it had succeeded");
    }
    return ok;
  },
};

export const createAgain: Check = {
  name: "create again what was deleted",
  need: "optional",
  means: {
    ok: "a key is free once its object is deleted",
    otherwise: "nothing lost: no key of a repository is created a second time",
    notAllowed: "not tried, for nothing may be deleted",
  },
  async run({ store, prefix, signal }) {
    const key = `${prefix}again`;
    await store.putIfAbsent(key, Buffer.from("first"), { signal });
    await store.delete(key, { signal });
    const code = await codeOf(store.putIfAbsent(key, Buffer.from("second"), { signal }));
    return code === null ? ok : missing("a key that was deleted counts as one that exists, for its versions are still there");
  },
};

export const bigObject: Check = {
  name: "an object of 64 MiB",
  need: "required",
  means: { ok: "packs have 32 MiB, 64 MiB at most", otherwise: "packs could not be stored" },
  async run({ store, prefix, signal, measure }) {
    const key = `${prefix}big`;
    // Does not compress, and costs no 64 MiB of random numbers.
    const page = randomBytes(1024 * 1024);
    const body = Buffer.alloc(BIG);
    for (let at = 0; at < BIG; at += page.length) page.copy(body, at);
    for (let at = 0; at < BIG; at += 4096) body.writeUInt32LE(at, at);
    measure("upload", BIG / ((await timed(() => store.putIfAbsent(key, body, { signal }))) / 1000));
    const { size } = await store.stat(key, { signal });
    if (size !== BIG) return wrong(`it was stored with ${size} bytes`);
    let back: Uint8Array = new Uint8Array(0);
    measure("download", BIG / ((await timed(async () => (back = await store.get(key, { signal })))) / 1000));
    return body.equals(back) ? seen("in one PUT") : wrong("other bytes came back than were written");
  },
};

function isExisting(thrown: unknown): boolean {
  return thrown instanceof StoreError && thrown.code === "already-exists";
}
