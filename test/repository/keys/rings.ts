import { createHash } from "node:crypto";

import type { ObjectStore } from "../../../src/objectstore/index.ts";
import { canonicalJson } from "../../../src/repository/format/json.ts";
import { type Credential, KeyRing } from "../../../src/repository/index.ts";

/** A ring for as long as `work` takes. */
export async function withRing<T>(access: { store: ObjectStore; key: Credential }, work: (ring: KeyRing) => Promise<T>): Promise<T> {
  const ring = await KeyRing.open({ ...access, signal: new AbortController().signal });
  try {
    return await work(ring);
  } finally {
    ring.close();
  }
}

/** A slot or rotation as somebody changes it who knows the format and no key: with a right sum. */
export function resummed(bytes: Uint8Array, change: (object: Record<string, unknown>) => Record<string, unknown>): Buffer {
  const { sum: _before, ...body } = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  const changed = change(body);
  return Buffer.from(JSON.stringify({ ...changed, sum: createHash("sha256").update(canonicalJson(changed)).digest("hex") }));
}
