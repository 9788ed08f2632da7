import { createHash, timingSafeEqual } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";

import { type BackupWork, MAX_ORDER_BYTES, parseWorkOrder, type WorkOrder } from "../../api/index.ts";
import { errorText } from "../../lib/errors.ts";
import type { Capture } from "../backup-source.ts";
import { OrderError } from "./errors.ts";

/** Reads a work order that must have this digest (`sha256:<hex>`). Rejects `tampered`, `invalid`, and with a `ContractError`. */
export async function readWorkOrder(path: string, digest: string): Promise<WorkOrder> {
  return parseWorkOrder(await readExactly(path, digest, "The work order"));
}

/** Reads the files beside an order that are kept with the point, each checked by its digest. Rejects `tampered`, `invalid`. */
export async function readCaptures(directory: string, captures: BackupWork["captures"]): Promise<readonly Capture[]> {
  const read: Capture[] = [];
  for (const { name, digest } of captures) {
    if (name === REQUEST || read.some((other) => other.name === name))
      throw new OrderError("invalid", `The work order has two files that would be kept as ${name}`);
    read.push({ name, bytes: await readExactly(join(directory, name), digest, `The file ${name} beside the work order`) });
  }
  return read;
}

/** The file that every ordered point has among its captures: whose run made it. */
export const REQUEST = "request.json";

async function readExactly(path: string, digest: string, what: string): Promise<Buffer> {
  const bytes = await readBounded(path, what);
  const [, wanted] = /^sha256:([0-9a-f]{64})$/.exec(digest) ?? [];
  if (wanted === undefined) throw new OrderError("invalid", `The digest of ${path} is not sha256: and 64 hexadecimal digits`);
  if (!timingSafeEqual(createHash("sha256").update(bytes).digest(), Buffer.from(wanted, "hex")))
    throw new OrderError("tampered", `${what} is not the one that was ordered: its SHA-256 differs`);
  return bytes;
}

async function readBounded(path: string, what: string): Promise<Buffer> {
  try {
    await using file = await open(path, "r");
    const buffer = Buffer.allocUnsafe(MAX_ORDER_BYTES + 1);
    let length = 0;
    for (let more = 1; more > 0 && length < buffer.length; length += more)
      ({ bytesRead: more } = await file.read(buffer, length, buffer.length - length, null));
    if (length <= MAX_ORDER_BYTES) return buffer.subarray(0, length);
  } catch (cause) {
    throw new OrderError("invalid", `${what} cannot be read at ${path}: ${errorText(cause)}`, { cause });
  }
  throw new OrderError("invalid", `${what} has more than ${MAX_ORDER_BYTES} bytes`);
}
