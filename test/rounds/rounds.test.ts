import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { checkRepository, prune, type Repository } from "../../src/repository/index.ts";
import { tempDir } from "../lab/index.ts";
import { newRepository } from "../repository/harness.ts";
import { packsNeeded } from "../repository/packs-needed.ts";
import { Rng } from "../soak/rng.ts";
import { ClockedStore, SharedClock } from "./clocked-store.ts";

const ROUNDS = Number(process.env["ROUNDS"] ?? (process.env["SOAK"] === "1" ? 250 : 12));
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const GRANULE = 65_536;
const SIZE = 40 * GRANULE;
const { signal } = new AbortController();
const program = join(import.meta.dirname, "actor.ts");

/** Processes at one repository, and the machines they back up. */
class Scene {
  readonly #dir = tempDir("rounds");
  readonly clock = new SharedClock(join(this.#dir, "clock"));
  readonly #disks = new Map<string, Buffer>();
  readonly #rng: Rng;
  repository!: Repository;
  readonly tally: Record<string, number> = {};

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  async start(): Promise<void> {
    this.clock.step(0);
    this.repository = await newRepository(new ClockedStore(join(this.#dir, "repo"), this.clock));
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

  /** Runs a party to its end, or to where it is killed. */
  async run(work: string, { more = "", mayDie = true }: { readonly more?: string; readonly mayDie?: boolean } = {}): Promise<void> {
    const args = ["--disable-warning=ExperimentalWarning", program, work, join(this.#dir, "repo"), join(this.#dir, "clock"), more];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    if (mayDie && this.#rng.chance(0.5)) child.stdout.once("data", () => this.#killLater(child));
    child.stdout.resume();
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    const end = code === null ? "killed" : ["done", "WRONG", "refused"][code];
    this.tally[`${work} ${end}`] = (this.tally[`${work} ${end}`] ?? 0) + 1;
    expect(code, said).not.toBe(1);
  }

  /** At a moment between the first request and well after the usual end. */
  #killLater(child: ChildProcess): void {
    const timer = setTimeout(() => child.kill("SIGKILL"), this.#rng.int(0, 500));
    child.once("close", () => clearTimeout(timer));
  }
}

test(
  `seed ${SEED}: ${ROUNDS} rounds of backups, restores, forgetting and prunes at once, half of them killed`,
  async () => {
    const rng = new Rng(SEED);
    const scene = new Scene(rng);
    await scene.start();
    for (let round = 0; round < ROUNDS; round++) {
      const vms = ["a", "b"].map((vm) => `${vm}:${scene.image(vm)}`);
      const parties = [
        ...vms.map(async (vm) => await scene.run("backup", { more: vm })),
        scene.run("restore"),
        ...(rng.int(0, 3) === 0 ? [scene.run("forget")] : []),
        ...(rng.int(0, 4) === 0 ? [scene.run("backup", { more: vms[0] ?? "" })] : []),
        scene.run("prune"),
        ...(rng.int(0, 5) === 0 ? [scene.run("prune")] : []),
      ];
      // Time passes between rounds, and now and then in the middle of one.
      const hours = [0, 1, 6, 12, 31][rng.int(0, 5)] ?? 0;
      if (rng.int(0, 4) === 0) setTimeout(() => scene.clock.step(hours), rng.int(0, 600));
      const results = await Promise.allSettled(parties);
      for (const result of results) if (result.status === "rejected") throw result.reason;
      scene.clock.step(hours);
    }
    await scene.run("verify", { mayDie: false });
    // Nobody is at work any more: what prune leaves is what is needed.
    for (let i = 0; i < 4; i++) {
      scene.clock.step(40);
      expect((await prune(scene.repository, { signal })).unclear).toEqual([]);
    }
    expect(await stored(scene.repository)).toEqual(await packsNeeded(scene.repository));
    expect((await checkRepository(scene.repository, { signal })).findings).toEqual([]);
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
