import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { type ObjectStore, parseStoreUrl, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { formatKeyFile, Repository } from "../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { restricted } from "../lab/s3-admin.ts";
import { KEY, restore } from "../repository/harness.ts";
import { pointsAt } from "../support/dated-points.ts";
import { type CliResult, thinstream, thinstreamJson } from "../support/thinstream.ts";

/** What `forget --json` says. */
interface ForgetJson {
  readonly dryRun: boolean;
  readonly machines: readonly {
    readonly vm: string;
    readonly points: readonly { readonly id: string; readonly time: string; readonly kept: boolean; readonly reasons: readonly string[] }[];
  }[];
  readonly forgotten: readonly string[];
  readonly warnings: readonly string[];
}

interface Place {
  readonly url: string;
  readonly store: ObjectStore;
}

const dir = tempDir("forget");
const keyFile = join(dir, "key");
writeFileSync(keyFile, formatKeyFile(KEY), { mode: 0o600 });

/** Ten nights, and one point at noon of the last day but one. */
const nights = Array.from({ length: 10 }, (_, i) => `2026-03-${String(i + 1).padStart(2, "0")}T01:00:00.000Z`);
const times = [...nights.slice(0, 9), "2026-03-09T12:00:00.000Z", ...nights.slice(9)];

let lab: S3Lab | undefined;
afterAll(async () => await lab?.stop());

async function s3Place(): Promise<Place> {
  lab ??= await startS3();
  Object.assign(process.env, lab.env);
  const url = lab.url(randomBytes(6).toString("hex"));
  return { url, store: new S3ObjectStore(parseStoreUrl(url) as S3Location) };
}

function fsPlace(): Promise<Place> {
  const path = join(dir, randomBytes(6).toString("hex"));
  return Promise.resolve({ url: `file://${path}`, store: new FsObjectStore(path) });
}

const stores = [
  { name: "a directory", make: fsPlace, skip: false },
  { name: "S3", make: s3Place, skip: skipWithout("s3") },
] as const;

/** A repository, and the command line on it. */
class Setting {
  readonly #place: Place;
  readonly repository: Repository;

  private constructor(place: Place, repository: Repository) {
    this.#place = place;
    this.repository = repository;
  }

  static async make(makePlace: () => Promise<Place>): Promise<Setting> {
    const place = await makePlace();
    return new Setting(place, await Repository.init({ store: place.store, key: KEY }));
  }

  get flags(): readonly string[] {
    return ["--repo", this.#place.url, "--key-file", keyFile];
  }

  get store(): ObjectStore {
    return this.#place.store;
  }

  async run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<CliResult> {
    return await thinstream([...args, ...this.flags], { env });
  }

  async json<T = ForgetJson>(...args: readonly string[]): Promise<T> {
    return await thinstreamJson<T>([...args, ...this.flags]);
  }

  /** Ids of the points that are not forgotten. */
  async listed(): Promise<string[]> {
    const { points } = await this.repository.catalog.list();
    return points.map(({ id }) => id).toSorted();
  }
}

describe.each(stores.filter(({ skip }) => !skip))("in $name", ({ make }) => {
  let at: Setting;
  let web: string[];
  let db: string[];
  beforeAll(async () => {
    at = await Setting.make(make);
    web = await pointsAt(at.repository, "web", times);
    db = await pointsAt(at.repository, "db", times.slice(0, 3));
  });
  afterAll(async () => await at?.store.close());

  test("a dry run says of every point what becomes of it and why, and changes nothing", async () => {
    const before = await at.listed();
    const { code, stdout } = await at.run(["forget", "--keep-last", "2", "--keep-daily", "3", "--keep-within", "1d", "--dry-run"]);
    expect(code).toBe(0);
    const lines = stdout.split("\n").map((line) => line.trim().split(/ {2,}/));
    const row = (id: string | undefined): string[] | undefined => lines.find(([first]) => first === id);
    expect(row(web[10])).toEqual([web[10], "2026-03-10T01:00:00.000Z", "keep", "newest, last 1, daily 2026-03-10, within 1d"]);
    expect(row(web[9])).toEqual([web[9], "2026-03-09T12:00:00.000Z", "keep", "last 2, daily 2026-03-09, within 1d"]);
    expect(row(web[8])).toEqual([web[8], "2026-03-09T01:00:00.000Z", "forget", "no rule keeps it"]);
    expect(row(web[7])).toEqual([web[7], "2026-03-08T01:00:00.000Z", "keep", "daily 2026-03-08"]);
    expect(lines.filter(([name]) => name === "db" || name === "web").flat()).toEqual(["db", "web"]);
    expect(stdout).toContain("Would forget 8 of 14 restore points");
    expect(await at.listed()).toEqual(before);
  });

  test("days begin where the time zone says", async () => {
    const kept = async (zone: string): Promise<unknown> => {
      const { machines } = await at.json("forget", "--keep-daily", "1", "--vm", "web", "web", "--time-zone", zone, "--dry-run");
      return machines.map(({ vm, points }) => [vm, points.filter((point) => point.kept).map(({ reasons }) => reasons)]);
    };
    expect(await kept("UTC")).toEqual([["web", [["newest", "daily 2026-03-10"]]]]);
    expect(await kept("America/New_York")).toEqual([["web", [["newest", "daily 2026-03-09"]]]]);
  });

  test("a hold keeps a point from rules and from its name, until it is released", async () => {
    const [held = "", other = ""] = web;
    expect(await at.run(["point", "hold", held])).toMatchObject({ code: 0, stdout: `Held ${held}\n` });
    expect((await at.run(["points"])).stdout).toMatch(new RegExp(`${held} .* held$`, "m"));
    expect(await at.json("show", held)).toMatchObject({ held: true });
    const { machines, forgotten } = await at.json("forget", "--keep-last", "1", "--vm", "web", "--dry-run");
    expect(machines[0]?.points.at(-1)).toMatchObject({ id: held, kept: true, reasons: ["hold"] });
    expect(forgotten).toEqual(web.slice(1, -1).toReversed());
    const refused = await at.run(["forget", "--point", other, held]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(`${held} is held and was not forgotten`) as string });
    expect(await at.listed()).toContain(other);
    expect(await at.run(["point", "release", held])).toMatchObject({ code: 0, stdout: `Released ${held}\n` });
    const again = await at.run(["point", "release", held]);
    expect(again).toMatchObject({ code: 3, stdout: expect.stringContaining("was not held") as string });
    expect(await at.run(["point", "hold", "ffffffffffff-1"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("no restore point") as string,
    });
  });

  test("a forgotten point can be held: it is said that no list shows it, and it still restores", async () => {
    const point = await at.repository.catalog.point(db[0] ?? "");
    expect(await at.json("forget", "--point", point.id)).toMatchObject({ dryRun: false, forgotten: [point.id] });
    expect(await at.run(["point", "hold", point.id])).toMatchObject({
      code: 3,
      stdout: expect.stringContaining("no list shows it") as string,
    });
    expect(await at.listed()).not.toContain(point.id);
    expect((await restore(at.repository, point, "vda")).subarray(0, 2).toString()).toBe("db");
    expect(await at.run(["point", "release", point.id])).toMatchObject({
      code: 3,
      stdout: expect.stringContaining("nothing keeps it") as string,
    });
  });

  test("forgets what the dry run said, of the machines it was told, and the newest of each stays", async () => {
    const rules = ["--keep-daily", "2", "--vm", "web"];
    const planned = await at.json("forget", ...rules, "--dry-run");
    const before = await at.listed();
    const { stdout } = await at.run(["forget", ...rules]);
    expect(stdout).toContain("Forgot 9 of 11 restore points");
    expect(await at.listed()).toEqual(before.filter((id) => !planned.forgotten.includes(id)));
    expect(await at.json("forget", ...rules)).toMatchObject({ forgotten: [] });
    expect(await at.json("forget", "--keep-yearly", "1")).toMatchObject({ warnings: [] });
    expect(new Set(await at.listed())).toEqual(new Set([db[2], web[10]]));
  });

  test("a point that cannot be read is forgotten by its name alone", async () => {
    const [damaged = "", whole = ""] = await pointsAt(at.repository, "mail", times.slice(0, 2));
    const [vm = "", seq = ""] = damaged.split("-");
    await at.store.put(`points/${vm}/${seq.padStart(10, "0")}`, randomBytes(300));
    const policy = await at.run(["forget", "--keep-last", "1", "--vm", "mail"]);
    expect(policy).toMatchObject({
      code: 3,
      stdout: expect.stringContaining(`${damaged} cannot be read, so no rule forgets it`) as string,
    });
    expect((await at.repository.catalog.list({ vm: "mail" })).unreadable.map(({ id }) => id)).toEqual([damaged]);
    expect(await at.run(["forget", "--point", damaged])).toMatchObject({ code: 0 });
    expect(await at.repository.catalog.list({ vm: "mail" })).toMatchObject({ unreadable: [], points: [{ id: whole }] });
  });
});

describe("whatever the store", () => {
  let at: Setting;
  let web: string;
  beforeAll(async () => {
    at = await Setting.make(fsPlace);
    [web = ""] = await pointsAt(at.repository, "web", times);
  });
  afterAll(async () => await at?.store.close());

  test("without a rule that keeps something, or with a flag that says nothing sure, it refuses and forgets nothing", async () => {
    const before = await at.listed();
    for (const [args, why] of [
      [[], /Nothing says what is to be forgotten/],
      [["--dry-run"], /Nothing says what is to be forgotten/],
      [["--vm", "web"], /Nothing says what is to be forgotten/],
      [["--keep-last", "0", "--keep-daily", "0"], /Nothing says what is to be forgotten/],
      [["--keep-last", "1", "--point", web], /--point names what is forgotten/],
      [["--keep-last", "-1"], /whole number/],
      [["--keep-daily", "3.5"], /whole number/],
      [["--keep-within", "6m"], /weeks, days and hours/],
      [["--keep-within", ""], /weeks, days and hours/],
      [["--keep-last", "1", "--time-zone", "Mars/Olympus"], /time zone of the IANA database/],
      [["--keep-last", "1", "--vm", "web", "wbe"], /no restore points of wbe/],
    ] as const) {
      const refused = await at.run(["forget", ...args]);
      expect(refused, args.join(" ")).toMatchObject({ code: 2, stdout: "", stderr: expect.stringMatching(why) as string });
    }
    expect(await at.listed()).toEqual(before);
  });

  test.each([
    ["once was years ahead", ["2026-03-01T01:00:00.000Z", "2036-03-02T01:00:00.000Z", "2026-03-03T01:00:00.000Z"]],
    ["is years ahead now", ["2026-03-01T01:00:00.000Z", "2026-03-02T01:00:00.000Z", "2086-03-03T01:00:00.000Z"]],
    ["was set back", ["2026-03-01T01:00:00.000Z", "2026-03-02T01:00:00.000Z", "1999-03-03T01:00:00.000Z"]],
  ])("where the store's clock %s, no rule forgets anything of that machine", async (name, wrong) => {
    await pointsAt(at.repository, name, wrong);
    const plan = await at.run(["forget", "--keep-within", "2d", "--vm", name]);
    expect(plan).toMatchObject({ code: 3, stdout: expect.stringContaining("the store's clock was wrong") as string });
    expect((await at.repository.catalog.list({ vm: name })).points).toHaveLength(3);
  });
});

describe.skipIf(skipWithout("s3"))("with a writer's credentials", () => {
  test("a point can be held and not released, also not by writing the hold anew", async () => {
    const at = await Setting.make(s3Place);
    const [id = ""] = await pointsAt(at.repository, "web", times.slice(0, 1));
    const [vm = "", seq = ""] = id.split("-");
    const env = await restricted(lab as S3Lab, ["s3:ListBucket", "s3:GetObject", "s3:PutObject"]);
    expect(await at.run(["point", "hold", id], env)).toMatchObject({ code: 0 });
    const refused = await at.run(["point", "release", id], env);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/denied|refused/i) as string });
    await at.store.put(`holds/${vm}/${seq.padStart(10, "0")}`, randomBytes(100));
    expect(await at.run(["forget", "--point", id], env)).toMatchObject({ code: 1 });
    expect(await at.listed()).toEqual([id]);
    expect(await at.run(["point", "release", id])).toMatchObject({ code: 0 });
    expect(await at.run(["forget", "--point", id], env)).toMatchObject({ code: 0 });
    expect(await at.listed()).toEqual([]);
    await at.store.close();
  });
});
