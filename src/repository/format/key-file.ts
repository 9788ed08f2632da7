import { createHash } from "node:crypto";

import { FormatError } from "./errors.ts";

const pattern = /^thinstream-key-1 ([0-9a-f]{64}) ([0-9a-f]{8})\r?\n?$/;

/** The line that a key file holds, with its line end. @param key 32 bytes */
export function formatKeyFile(key: Uint8Array): string {
  return `thinstream-key-1 ${Buffer.from(key).toString("hex")} ${checkDigits(key)}\n`;
}

/** The 32 bytes of a key file's text. Rejects anything but the exact line; the message never quotes it. */
export function parseKeyFile(content: string): Buffer {
  const match = pattern.exec(content);
  if (match === null) {
    throw new FormatError("invalid", "The key file does not hold a Thinstream key", {
      hint: "A key file is one line that begins with thinstream-key-1, as `thinstream init` writes it",
    });
  }
  const key = Buffer.from(match[1] ?? "", "hex");
  if (checkDigits(key) !== match[2]) {
    throw new FormatError("invalid", "The key file has a typing error: its check digits do not fit", {
      hint: "Compare it with another copy of the key",
    });
  }
  return key;
}

function checkDigits(key: Uint8Array): string {
  return createHash("sha256").update(key).digest("hex").slice(0, 8);
}
