import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { checkRepository, prune, type Repository } from "../../src/repository/index.ts";
import { tempDir } from "../lab/index.ts";
import { newRepository } from "../repository/harness.ts";
import { packsNeeded } from "../repository/packs-needed.ts";
import { Rng } from "../soak/rng.ts";
import { ClockedStore, keyOf, SharedClock } from "./clocked-store.ts";

const ROUNDS = Number(process.env["ROUNDS"] ?? (process.env["SOAK"] === "1" ? 250 : 12));
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const GRANULE = 65_536;
const SIZE = 40 * GRANULE;
const { signal } = new AbortController();
/** A repository, and where it is copied to. */
const PLACES = ["site", "offsite"];
const program = join(import.meta.dirname, "actor.ts");

interface Party {
  readonly more?: string;
  readonly mayDie?: boolean;
  readonly at?: string;
}

/** Processes at a repository and at another one that it is copied to, and the machines they back up. */
class Scene {
  readonly #dir = tempDir("rounds");
  readonly clock = new SharedClock(join(this.#dir, "clock"));
  readonly #disks = new Map<string, Buffer>();
  readonly #rng: Rng;
  readonly repositories: Repository[] = [];
  readonly tally: Record<string, number> = {};

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  async start(): Promise<void> {
    this.clock.step(0);
    for (const name of PLACES) {
      const dir = join(this.#dir, name);
      this.repositories.push(await newRepository(new ClockedStore(dir, this.clock), keyOf(dir)));
    }
  }

  /** A machine's disk as its guest has left it now: some of it new, some of it taken from the other machine. */
  image(vm: string): string {
    const disk = this.#disks.get(vm) ?? Buffer.alloc(SIZE);
    const other = [...this.#disks.values()][0] ?? disk;
    for (let i = this.#rng.int(0, 6); i >= 0; i--) {
      const at = this.#rng.int(0, 40) * GRANULE;
      if (this.#rng.int(0, 4) === 0) other.copy(disk, at, at, at + GRANULE);
      else disk.fill(this.#rng.int(0, 2) === 0 ? 0 : this.#rng.int(0, 2 ** 32).toString(36), at, at + GRANULE);
    }
    this.#disks.set(vm, disk);
    const file = join(this.#dir, vm);
    writeFileSync(file, disk);
    return file;
  }

  /** Runs a party to its end, or to where it is killed. @returns what it said */
  async run(work: string, { more = "", mayDie = true, at = "site" }: Party = {}): Promise<string> {
    const args = ["--disable-warning=ExperimentalWarning", program, work, join(this.#dir, at), join(this.#dir, "clock"), more];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let [told, said] = ["", ""];
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    if (mayDie && this.#rng.chance(0.5)) child.stdout.once("data", () => this.#killLater(child));
    child.stdout.on("data", (chunk: Buffer) => (told += chunk.toString()));
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    const end = code === null ? "killed" : ["done", "WRONG", /refused: \S+/.exec(told)?.[0]][code];
    const what = `${work}${at === "site" ? "" : ` ${at}`} ${end}`;
    this.tally[what] = (this.tally[what] ?? 0) + 1;
    expect(code, said).not.toBe(1);
    if (!mayDie) expect(code, said).toBe(0);
    return told;
  }

  /** Copies from the first repository to the second. */
  async copy(mayDie = true): Promise<string> {
    return await this.run("copy", { more: join(this.#dir, "offsite"), mayDie });
  }

  /** At a moment between the first request and well after the usual end. */
  #killLater(child: ChildProcess): void {
    const timer = setTimeout(() => child.kill("SIGKILL"), this.#rng.int(0, 500));
    child.once("close", () => clearTimeout(timer));
  }
}

/** What happens at once in a round; `vms` are machines with files of their disks. */
function partiesOf(scene: Scene, rng: Rng, vms: readonly string[]): Promise<string>[] {
  return [
    ...vms.map(async (vm) => await scene.run("backup", { more: vm })),
    scene.run("restore"),
    scene.copy(),
    ...(rng.int(0, 4) === 0 ? [scene.copy()] : []),
    ...(rng.int(0, 3) === 0 ? [scene.run("forget")] : []),
    ...(rng.int(0, 4) === 0 ? [scene.run("backup", { more: vms[0] ?? "" })] : []),
    scene.run("prune"),
    ...(rng.int(0, 5) === 0 ? [scene.run("prune")] : []),
    ...["restore", "forget", "prune"].flatMap((work) => (rng.int(0, 3) === 0 ? [scene.run(work, { at: "offsite" })] : [])),
  ];
}

test(
  `seed ${SEED}: ${ROUNDS} rounds of backups, restores, copies, forgetting and prunes at once, half of them killed`,
  async () => {
    const rng = new Rng(SEED);
    const scene = new Scene(rng);
    await scene.start();
    for (let round = 0; round < ROUNDS; round++) {
      const vms = ["a", "b"].map((vm) => `${vm}:${scene.image(vm)}`);
      const parties = partiesOf(scene, rng, vms);
      // Time passes between rounds, and now and then in the middle of one.
      const hours = [0, 1, 6, 12, 31][rng.int(0, 5)] ?? 0;
      if (rng.int(0, 4) === 0) setTimeout(() => scene.clock.step(hours), rng.int(0, 600));
      const results = await Promise.allSettled(parties);
      for (const result of results) if (result.status === "rejected") throw result.reason;
      scene.clock.step(hours);
    }
    // What killed copies left undone one that lives does, and then there is nothing left to do.
    await scene.copy(false);
    expect(await scene.copy(false)).toContain("copied 0 points, 0 bytes");
    for (const at of PLACES) await scene.run("verify", { at, mayDie: false });
    const [site, offsite] = scene.repositories as [Repository, Repository];
    await expectCopied(site, offsite);
    // Nobody is at work any more: what prune leaves is what is needed.
    for (let i = 0; i < 4; i++) {
      scene.clock.step(40);
      for (const repository of scene.repositories) expect((await prune(repository, { signal })).unclear).toEqual([]);
    }
    for (const repository of scene.repositories) {
      expect(await stored(repository)).toEqual(await packsNeeded(repository));
      expect((await checkRepository(repository, { signal })).findings).toEqual([]);
    }
    console.log(
      `seed ${SEED}: ${ROUNDS} rounds: ${Object.entries(scene.tally)
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([what, count]) => `${count} ${what}`)
        .join(", ")}`,
    );
  },
  ROUNDS * 20_000 + 120_000,
);

async function stored({ store }: Repository): Promise<Set<string>> {
  const packs = new Set<string>();
  for await (const { key } of store.list("packs/")) packs.add(key.slice(-32));
  return packs;
}

/** Every point of the one is in the other, but what was forgotten there; no point twice, none behind a younger one of its machine. */
async function expectCopied(site: Repository, offsite: Repository): Promise<void> {
  const { points: copies, forgotten } = await offsite.catalog.list({ withForgotten: true });
  const origins = copies.map(({ origin }) => origin?.point ?? "");
  expect(new Set(origins).size).toBe(origins.length);
  const left = (await site.catalog.list()).points.filter(({ id }) => !origins.includes(id));
  // Prune has removed the copies of these, which were forgotten: younger ones that are there keep them from coming back.
  expect(left.length).toBeLessThanOrEqual(forgotten.size);
  for (const machine of Map.groupBy(copies, ({ vm }) => vm.name).values()) {
    const times = machine.toSorted((a, b) => a.seq - b.seq).map(({ time }) => time);
    expect(times).toEqual(times.toSorted((a, b) => (a < b ? -1 : 1)));
  }
  console.log(`${copies.length} points copied are there still`);
}
