import { randomBytes } from "node:crypto";

const PREFIX = "ts";

/** A new checkpoint's name: `ts-<tag>-<hex seconds>-<4 random hex>`. */
export function newCheckpointName(tag: string, now: Date): string {
  const seconds = Math.floor(now.getTime() / 1000).toString(16);
  return [PREFIX, tag, seconds, randomBytes(2).toString("hex")].join("-");
}

/** Whether a checkpoint is one of this repository's and machine's. */
export function isOurs(name: string, tag: string): boolean {
  return name.startsWith(`${PREFIX}-${tag}-`);
}
