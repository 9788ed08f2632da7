import { randomBytes } from "node:crypto";
import { StoreError } from "./errors.ts";
import type { CallOptions, ObjectStore } from "./objectstore.ts";

/** Probe objects are named `probe-<16 hexadecimal digits>`; one may stay where the credential may not delete. */
export const probePrefix = "probe-";

/** Created by the first backup, refused to every later one; holds nothing. */
const onceKey = "once";

/**
 * Tries out what a repository stands on, with one small object: that a key can be created once and not twice, that what was written is read
 * back whole and in part, and that it is listed. Rejects `no-conditional-writes` for a store that lets a second creation pass, `failed` for
 * one that gives back other bytes or does not list them, and whatever the store itself rejects with (access, missing bucket, …).
 */
export async function probeStore(store: ObjectStore, options: CallOptions = {}): Promise<void> {
  const key = probePrefix + randomBytes(8).toString("hex");
  await store.putIfAbsent(key, Buffer.from("first"), options);
  try {
    await refuseSecond(store, key, options);
    await readBack(store, key, options);
  } finally {
    // Writers need no delete permission, and a locked bucket grants none; then the few bytes stay.
    await store.delete(key, options).catch(() => undefined);
  }
}

async function refuseSecond(store: ObjectStore, key: string, options: CallOptions): Promise<void> {
  try {
    await store.putIfAbsent(key, Buffer.from("second"), options);
  } catch (error) {
    if (error instanceof StoreError && error.code === "already-exists") return;
    throw error;
  }
  throw noConditionalWrites(store);
}

/**
 * Proves that the store still creates a key only once, before a backup stands on it: the way to a bucket may change after `init`, to a gateway
 * or proxy that drops the condition without a word. One request where the object is there from an earlier backup. Rejects `no-conditional-writes`.
 */
export async function requireConditionalWrites(store: ObjectStore, options: CallOptions = {}): Promise<void> {
  for (let creation = 1; creation <= 2; creation++) {
    try {
      // Bytes of their own each time: a retry must not take another's object for the one it created itself.
      await store.putIfAbsent(onceKey, randomBytes(16), options);
    } catch (error) {
      if (error instanceof StoreError && error.code === "already-exists") return;
      throw error;
    }
  }
  throw noConditionalWrites(store);
}

function noConditionalWrites(store: ObjectStore): StoreError {
  return new StoreError(
    "no-conditional-writes",
    `${store.url} accepted two creations of one key, so two backups could overwrite each other`,
    {
      hint: "use a store that honours PUT with If-None-Match: * (Amazon S3, MinIO, Ceph RGW 20 or later, Cloudflare R2, …)",
    },
  );
}

async function readBack(store: ObjectStore, key: string, options: CallOptions): Promise<void> {
  const whole = Buffer.from(await store.get(key, { ...options, maxBytes: 1024 })).toString("latin1");
  const part = Buffer.alloc(3);
  await store.read(key, 1, part, options);
  if (whole !== "first" || part.toString("latin1") !== "irs") {
    throw new StoreError("failed", `${store.url} gave back other bytes than were written`);
  }
  for await (const object of store.list(key, options)) {
    if (object.key === key && object.size === whole.length) return;
  }
  throw new StoreError("failed", `${store.url} does not list an object that was just written`, {
    hint: "the store must list objects as soon as they are written",
  });
}
