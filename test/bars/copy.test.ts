import { randomBytes, randomFillSync } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { formatBytes } from "../../src/lib/bytes.ts";
import { skipWithout, tempDir } from "../lab/index.ts";
import { measured } from "./measured.ts";

const MiB = 2 ** 20;
const LIMIT = 300 * MiB;
const SIZE = (process.env["SOAK"] === "1" ? 4096 : 512) * MiB;
/** points after the first, and what each of them writes anew, in pieces that lie apart */
const [POINTS, CHANGED, PIECE] = [8, 64 * MiB, MiB];

test.skipIf(skipWithout("host"))(
  `a copy of ${POINTS + 1} points stays within 300 MiB, as a backup does`,
  { timeout: 1_800_000 },
  async () => {
    const dir = tempDir("copy-bar");
    const place = (name: string): readonly string[] => ["--repo", `file://${join(dir, name)}`, "--key-file", join(dir, `${name}.key`)];
    const image = join(dir, "web.raw");
    const file = openSync(image, "w");
    const chunk = Buffer.alloc(32 * MiB);
    for (let at = 0; at < SIZE; at += chunk.length) writeSync(file, randomFillSync(chunk), 0, chunk.length, at);
    for (const name of ["site", "offsite"]) await measured(["init", ...place(name)]);
    for (let point = 0; point <= POINTS; point++) {
      await measured(["backup", ...place("site"), "--image", image]);
      const apart = Math.floor(SIZE / (CHANGED / PIECE));
      for (let i = 0; i < CHANGED / PIECE; i++) writeSync(file, randomBytes(PIECE), 0, PIECE, i * apart + (point % 4) * PIECE);
    }
    closeSync(file);
    const [[, from, , fromKey], [, to, , toKey]] = [place("site"), place("offsite")] as [string[], string[]];
    const args = ["copy", "--all", "--from", from ?? "", "--from-key-file", fromKey ?? "", "--to", to ?? "", "--to-key-file", toKey ?? ""];
    const copied = await measured(args);
    console.log(
      `copy of ${POINTS + 1} points, ${formatBytes(SIZE + POINTS * CHANGED)}: ${formatBytes(copied.peak)} resident at most, ${copied.cpu} s of CPU`,
    );
    expect((copied.json["copied"] as unknown[]).length).toBe(POINTS + 1);
    expect(copied.peak).toBeLessThanOrEqual(LIMIT);
  },
);
