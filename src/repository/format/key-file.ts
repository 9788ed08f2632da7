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

/** What the file with the key of one domain holds, FORMAT.md §4.3. */
export interface DomainKeyFile {
  /** 16 bytes */
  readonly repositoryId: Buffer;
  /** 8 hex digits */
  readonly domain: string;
  /** 32 bytes */
  readonly key: Buffer;
}

const domainPattern = /^(thinstream-domain-key-1 ([0-9a-f]{32}) ([0-9a-f]{8}) ([0-9a-f]{64})) ([0-9a-f]{8})\r?\n?$/;

/** The line that the file with a domain's key holds, with its line end. */
export function formatDomainKeyFile({ repositoryId, domain, key }: DomainKeyFile): string {
  const line = `thinstream-domain-key-1 ${repositoryId.toString("hex")} ${domain} ${key.toString("hex")}`;
  return `${line} ${checkDigits(Buffer.from(line))}\n`;
}

/** Undoes `formatDomainKeyFile`; null for a file that begins otherwise. */
export function parseDomainKeyFile(content: string): DomainKeyFile | null {
  if (!content.startsWith("thinstream-domain-key-")) return null;
  const [, line = "", repository = "", domain = "", key = "", digits] = domainPattern.exec(content) ?? [];
  if (line === "" || checkDigits(Buffer.from(line)) !== digits) {
    throw new FormatError("invalid", "The file with the key of a domain has a typing error, or is of a later version", {
      hint: "Compare it with another copy, or have it made again with `thinstream key export-domain`",
    });
  }
  return { repositoryId: Buffer.from(repository, "hex"), domain, key: Buffer.from(key, "hex") };
}

function checkDigits(key: Uint8Array): string {
  return createHash("sha256").update(key).digest("hex").slice(0, 8);
}
