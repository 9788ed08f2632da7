import { randomBytes, randomFillSync } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { formatBytes } from "../../src/lib/bytes.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { type FaultProxy, type SeenRequest, startFaultProxy } from "../objectstore/s3/fault-proxy.ts";
import { thinstreamJson } from "../support/thinstream.ts";

const [MiB, GiB, GRANULE] = [2 ** 20, 2 ** 30, 65_536];
/** `SOAK=1`: so much new data that the bar holds of all requests of the run together. */
const SIZE = process.env["SOAK"] === "1" ? 5 * GiB : 512 * MiB;
const GRANULES = SIZE / GRANULE;
const BAR = 36;
/** Granules written anew for the second backup, each apart from the others. */
const CHANGED = 64;
/** What a run asks for whatever its size: config, keys, rotations, head, points and markers beside it, hints, damage, the point read back. */
const ASKED = 24;
/** Granules that a restore fetches together. */
const WINDOW = 128;
/**
 * To read a whole map: its leaves come with those that have the same parent, which is 64 MiB of disk, in two requests at most, and some of them twice
 * where there are more than are kept at hand, 2,048 for 4 GiB; and what is above.
 */
const MAP = (GRANULES > 65_536 ? 3 : 2) * Math.ceil(GRANULES / 1024) + 4;

describe.skipIf(skipWithout("s3", "host"))(`requests for ${formatBytes(SIZE)}, counted in front of an S3 server`, () => {
  const dir = tempDir("budget");
  const image = join(dir, "web.raw");
  let seen: SeenRequest[] = [];
  let lab: S3Lab;
  let proxy: FaultProxy;
  let flags: string[];
  let env: NodeJS.ProcessEnv;
  let full: Requests;
  let next: Requests;
  beforeAll(async () => {
    lab = await startS3();
    proxy = await startFaultProxy(lab.endpoint, { onRequest: (one) => seen.push(one) });
    env = lab.env;
    flags = ["--repo", lab.url("budget").replace(lab.endpoint, proxy.endpoint), "--key-file", join(dir, "key")];
    const file = openSync(image, "w");
    const chunk = Buffer.alloc(32 * MiB);
    for (let at = 0; at < SIZE; at += chunk.length) writeSync(file, randomFillSync(chunk), 0, chunk.length, at);
    closeSync(file);
    await thinstreamJson(["init", ...flags], { env });
    full = await requestsOf(["backup", ...flags, "--image", image]);
    const again = openSync(image, "r+");
    for (let i = 0; i < CHANGED; i++)
      writeSync(again, randomBytes(GRANULE), 0, GRANULE, Math.floor(((i + 0.5) * GRANULES) / CHANGED) * GRANULE);
    closeSync(again);
    next = await requestsOf(["backup", ...flags, "--image", image]);
  }, 1_200_000);
  afterAll(async () => {
    await proxy?.stop();
    await lab?.stop();
  });

  async function requestsOf(args: readonly string[]): Promise<Requests> {
    seen = [];
    await thinstreamJson(args, { env });
    const requests = new Requests(seen);
    console.log(`${args[0]}: ${requests.summary()}`);
    return requests;
  }

  test(`a full backup takes at most ${BAR} PUTs for each GiB it stores, those apart that every run has`, () => {
    const packs = full.of("PUT", "packs");
    const largest = Math.max(...packs.map(({ bytes }) => bytes));
    const data = packs.filter(({ bytes }) => bytes > largest - MiB);
    const stored = packs.reduce((sum, { bytes }) => sum + bytes, 0);
    const rest = full.of("PUT").length - data.length;
    const each = (bytes: number): number => (bytes / (data[0]?.bytes ?? 1) + rest) / (bytes / GiB);
    console.log(
      `${data.length} full packs of ${formatBytes(largest)}, ${rest} other PUTs (point, head, hints, sums, \`once\`, the last packs), ${formatBytes(stored)} stored: ` +
        `${((full.of("PUT").length * GiB) / stored).toFixed(1)} PUTs per GiB; ${[1, 2, 5, 16].map((n) => `${each(n * GiB).toFixed(1)} at ${n} GiB`).join(", ")}`,
    );
    expect(rest).toBeLessThanOrEqual(8);
    expect(each(5 * GiB)).toBeLessThanOrEqual(BAR);
    if (SIZE >= 5 * GiB) expect(full.of("PUT").length / (stored / GiB)).toBeLessThanOrEqual(BAR);
  });

  test("a backup sends no HEAD and no LIST and deletes nothing, and reads back each pack's end and little more", () => {
    for (const requests of [full, next]) {
      expect(Object.keys(requests.methods).toSorted()).toEqual(["GET", "PUT"]);
      const packs = requests.of("PUT", "packs").length;
      const own = requests.of("GET").length - requests.of("GET", "packs").length;
      expect(own, requests.summary()).toBeLessThanOrEqual(ASKED);
      // The end of each pack that was stored; and of a map what the disk is compared with, or what the hints are drawn from.
      expect(requests.of("GET", "packs").length, requests.summary()).toBeLessThanOrEqual(packs + MAP);
    }
    expect(next.of("PUT").length).toBeLessThanOrEqual(6);
  });

  test("a restore asks for stretches of packs, as many as the map has", async () => {
    const requests = await requestsOf(["restore", ...flags, "--point", "latest", "--vm", "web", "--output", join(dir, "out")]);
    // Each window in one request, one more where it goes on in another pack, and two around each granule that lies elsewhere now.
    const packs = full.of("PUT", "packs").length + next.of("PUT", "packs").length;
    const bound = Math.ceil(GRANULES / WINDOW) + packs * Math.ceil(GRANULES / 16_384) + 2 * CHANGED + MAP;
    expect(requests.of("GET", "packs").length, requests.summary()).toBeLessThanOrEqual(bound);
    // Finding the newest point by a name lists the points, and what domains there are and were.
    expect(requests.of("PUT").length).toBe(0);
    expect(requests.of("LIST").length).toBeLessThanOrEqual(6);
    console.log(
      `${requests.of("GET", "packs").length} GETs of packs, at most ${bound} by the map: ${((requests.of("GET").length * GiB) / SIZE).toFixed(0)} GETs per GiB`,
    );
  });
});

/** What one command sent. */
class Requests {
  readonly #seen: readonly SeenRequest[];

  constructor(seen: readonly SeenRequest[]) {
    this.#seen = seen;
  }

  /** @param kind first part of the keys below the repository's prefix */
  of(method: string, kind?: string): SeenRequest[] {
    return this.#seen.filter((one) => one.method === method && (kind === undefined || kindOf(one) === kind));
  }

  get methods(): Readonly<Record<string, number>> {
    return countOf(this.#seen.map(({ method }) => method));
  }

  summary(): string {
    const counts = countOf(this.#seen.map((one) => `${one.method} ${kindOf(one)}`));
    return Object.entries(counts)
      .map(([what, count]) => `${count} ${what}`)
      .join(", ");
  }
}

function kindOf({ path }: SeenRequest): string {
  return /\/budget\/([^/]*)/.exec(path)?.[1] ?? "";
}

function countOf(all: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of all.toSorted()) counts[one] = (counts[one] ?? 0) + 1;
  return counts;
}
