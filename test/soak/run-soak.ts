import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { parseStoreUrl } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import type { PointRecord } from "../../src/repository/index.ts";
import { type Flavour, rawCopy, startLibvirt, startS3, tempDir } from "../lab/index.ts";
import type { DiskImprint } from "./disk-model.ts";
import { bitmapsOf, EVENT_WEIGHTS, type EventName, firstDisks, happen } from "./events.ts";
import { GuestActions } from "./guest-actions.ts";
import { Rng } from "./rng.ts";
import { type AskedLevel, type Ending, SoakRepository } from "./soak-repository.ts";
import { SoakVm } from "./soak-vm.ts";

export interface SoakOptions {
  readonly seed: number;
  readonly rounds: number;
  readonly store: "file" | "s3";
  readonly flavour: Flavour;
  readonly say: (text: string) => void;
  /** told of everything that is done, as it is done */
  readonly trace?: (text: string) => void;
}

/** How often everything happened, and what the backups were. */
export type SoakSummary = Readonly<Record<string, number>>;

/** Steps that every backup of a running machine passes, in order. */
const STEPS = [
  "connected",
  "leftovers-cleared",
  "directory-made",
  "bases-defined",
  "begun",
  "exported",
  "opened",
  "disks-written",
  "packs-stored",
  "committed",
  "job-ended",
  "checkpoint-deleted",
  "directory-removed",
  "source-released",
  "head-written",
] as const;
/** From here on the instant of the backup has passed, and the guest may write again without being in it. */
const AFTER_INSTANT: readonly string[] = STEPS.slice(STEPS.indexOf("exported"));
const KILL_WITHIN_MS = 1500;

/**
 * Rounds of guest activity, mishaps and backups against real libvirt, with a model of every disk as the judge.
 * @throws Error with seed, round, disk and offset at the first thing that is not as it must be
 */
export async function runSoak(options: SoakOptions): Promise<SoakSummary> {
  const dir = tempDir("soak");
  const lab = await startLibvirt(options.flavour);
  const s3 = options.store === "s3" ? await startS3({ bucket: "soak" }) : null;
  try {
    const url = s3?.url("vms") ?? `file://${join(dir, "repository")}`;
    const repo = new SoakRepository(dir, url, s3?.env ?? {});
    Object.assign(process.env, s3?.env ?? {});
    const location = parseStoreUrl(url);
    await repo.init(() => (location.kind === "fs" ? new FsObjectStore(location.path) : new S3ObjectStore(location)));
    const soak = new Soak(new SoakVm(lab), repo, options);
    await soak.begin();
    for (let round = 1; round <= options.rounds; round++) await soak.round(round);
    await soak.end();
    await repo.repository.store.close();
    return soak.counts;
  } finally {
    await s3?.stop();
    await lab.stop();
  }
}

class Soak {
  readonly counts: Record<string, number> = {};
  readonly #vm: SoakVm;
  readonly #repo: SoakRepository;
  readonly #options: SoakOptions;
  readonly #actions: GuestActions;
  /** what every point there is must restore to, oldest first */
  readonly #truth = new Map<string, ReadonlyMap<string, DiskImprint>>();
  readonly #started = performance.now();
  #last = "";
  #rng!: Rng;
  #afterKill = false;

  constructor(vm: SoakVm, repo: SoakRepository, options: SoakOptions) {
    this.#vm = vm;
    this.#repo = repo;
    this.#options = options;
    const payloads = join(vm.lab.dir, "payloads");
    mkdirSync(payloads);
    this.#actions = new GuestActions(payloads);
  }

  async begin(): Promise<void> {
    await firstDisks(this.#vm);
    await this.#vm.define();
    await this.#vm.start();
  }

  async round(round: number): Promise<void> {
    this.#options.trace?.(`round ${round}`);
    this.#rng = new Rng(this.#options.seed, round);
    try {
      await this.#play();
    } catch (cause) {
      const where = `seed ${this.#options.seed}, round ${round}, ${this.#doing}`;
      throw new Error(`${where}: ${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}`, { cause });
    }
    if (round % 10 === 0) {
      const seconds = (performance.now() - this.#started) / 1000;
      this.#options.say(`round ${round}: ${this.#truth.size} points, ${seconds.toFixed(0)} s, ${(seconds / round).toFixed(2)} s a round`);
    }
  }

  async #play(): Promise<void> {
    const rng = this.#rng;
    for (let i = rng.int(0, 4); i > 0; i--) await this.#write();
    if (rng.chance(0.25)) await this.#event(rng.weighted(EVENT_WEIGHTS));
    if (rng.chance(0.5)) await this.#write();
    await this.#backup();
    if (rng.chance(0.06)) await this.#forget();
    if (rng.chance(0.04)) {
      this.#doing = "losing the head hint";
      await this.#repo.loseHead();
      this.#count("event headLost");
    }
    if (rng.chance(0.2)) await this.#verify(rng.chance(0.4) ? this.#newest() : rng.pick([...this.#truth.keys(), this.#newest()]));
    if (rng.chance(0.01)) await this.#verifyByCli(rng.pick([...this.#truth.keys(), this.#newest()]));
  }

  get #doing(): string {
    return this.#last;
  }

  set #doing(what: string) {
    this.#last = what;
    this.#options.trace?.(`  ${what}`);
  }

  async #write(): Promise<void> {
    const disk = this.#rng.pick(this.#vm.attached);
    const actions = Array.from({ length: this.#rng.int(1, 7) }, () => this.#actions.make(this.#rng, disk));
    this.#doing = `${disk.spec.name}: ${actions.flatMap(({ commands }) => commands).join(", ")}`;
    for (const { kind } of actions) this.#count(`write ${kind}`);
    await this.#vm.act(disk, actions);
  }

  async #event(event: EventName): Promise<void> {
    this.#doing = event;
    const refused = await happen(event, {
      rng: this.#rng,
      vm: this.#vm,
      write: async () => await this.#write(),
      backup: async () => await this.#here(this.#rng.pick(["auto", "auto", "auto", "full", "differential", "copy"])),
    });
    this.#count(refused === null ? `event ${event}` : `refused ${event}: ${refused}`);
  }

  async #backup(): Promise<void> {
    const rng = this.#rng;
    const how = rng.weighted({ here: 70, process: 4, killedAtTime: 8, killedAtStep: 10, terminated: 8 });
    const level = rng.weighted<AskedLevel>({ auto: 70, full: 8, differential: 9, copy: 7, incremental: 6 });
    if (how === "here") await this.#here(level);
    else if (how === "process") await this.#process(level);
    else await this.#ended(how, level);
  }

  /** In this process; the guest may write while the job runs. */
  async #here(level: AskedLevel): Promise<void> {
    const truth = this.#vm.imprint();
    const writeAt = this.#vm.running && this.#rng.chance(0.3) ? this.#rng.pick(AFTER_INSTANT) : null;
    const before = this.#vm.running ? await this.#vm.checkpoints() : [];
    const point = await this.#repo.backup(this.#vm, level, async (step) => {
      if (step !== writeAt) return;
      this.#count("write during a backup");
      await this.#write();
    });
    this.#doing = `backup ${level}`;
    await this.#took(point, truth);
    if (this.#vm.running) await this.#tidy(point, before);
  }

  async #process(level: AskedLevel): Promise<void> {
    this.#doing = `backup ${level} as a process`;
    const truth = this.#vm.imprint();
    const result = await this.#repo.backupProcess(this.#vm, level);
    if (result.code !== 0 && result.code !== 3) throw new Error(`the backup ended with ${result.code}: ${result.stderr}`);
    await this.#takeNew(truth);
    await this.#tidy(undefined, []);
  }

  /** A process that does not come to its end by itself. */
  async #ended(how: "killedAtTime" | "killedAtStep" | "terminated", level: AskedLevel): Promise<void> {
    const rng = this.#rng;
    const step = rng.pick(STEPS);
    const at = how === "killedAtStep" ? step : rng.int(50, KILL_WITHIN_MS);
    const writes = how === "killedAtStep" && AFTER_INSTANT.includes(step) && rng.chance(0.4);
    const ending: Ending = {
      at,
      signal: how === "terminated" ? "SIGTERM" : "SIGKILL",
      ...(writes ? { meanwhile: async () => await this.#write() } : {}),
    };
    this.#doing = `backup ${level} with ${ending.signal} at ${at}${writes ? ", writes before it" : ""}`;
    const truth = this.#vm.imprint();
    const result = await this.#repo.backupProcess(this.#vm, level, ending);
    const cut = result.signal !== null || result.code !== 0;
    const committed = await this.#takeNew(truth);
    this.#count(`${how}${cut ? "" : ", but it was done"}${cut && committed ? ", the point was there" : ""}`);
    if (result.signal === null && result.code !== 0 && how !== "terminated") throw new Error(`it failed by itself: ${result.stderr}`);
    // One that is ended before its turn at that leaves what a killed one before it left.
    if (how === "terminated" && (!this.#afterKill || committed)) await this.#tidy(undefined, []);
    else if (how !== "terminated") this.#afterKill = true;
  }

  /** Takes up the point that a process made, if it made one. */
  async #takeNew(truth: ReadonlyMap<string, DiskImprint>): Promise<boolean> {
    const point = await this.#repo.newest(this.#vm);
    if (point === undefined || this.#truth.has(point.id) || this.#forgotten.has(point.id)) return false;
    await this.#took(point, truth);
    return true;
  }

  async #took(point: PointRecord, truth: ReadonlyMap<string, DiskImprint>): Promise<void> {
    this.#truth.set(point.id, truth);
    this.#options.trace?.(
      `  -> ${point.id} ${JSON.stringify(point.disks.map(({ name, level, base, reason }) => ({ name, level, base, reason })))}`,
    );
    this.#count("points");
    for (const { level, reason } of point.disks) this.#count(`disk ${level}${reason === "" ? "" : `: ${general(reason)}`}`);
  }

  /** Nothing of ours is left but the checkpoint that the next backup stands on. */
  async #tidy(point: PointRecord | undefined, before: readonly string[]): Promise<void> {
    this.#afterKill = false;
    const left = ownDirectories(this.#vm.uuid);
    if (left.length > 0) throw new Error(`left behind: ${left.join(", ")}`);
    const job = await this.#vm.lab.virsh("domjobinfo", this.#vm.name);
    if (!/None/.test(job)) throw new Error(`a job is left: ${job}`);
    const checkpoints = await this.#vm.checkpoints();
    if (checkpoints.length > 1) throw new Error(`checkpoints are left: ${checkpoints.join(", ")} (before: ${before.join(", ")})`);
    const made = point?.disks.map(({ checkpoint }) => checkpoint).find((name) => name !== null);
    if (made !== undefined && checkpoints[0] !== made) throw new Error(`the checkpoint ${made} is not there: ${checkpoints.join(", ")}`);
  }

  readonly #forgotten = new Set<string>();

  async #forget(): Promise<void> {
    if (this.#truth.size < 2) return;
    const id = this.#rng.chance(0.3) ? this.#newest() : this.#rng.pick([...this.#truth.keys()]);
    this.#doing = `forgetting ${id}`;
    await this.#repo.repository.catalog.forget(id);
    this.#truth.delete(id);
    this.#forgotten.add(id);
    this.#count("event forgotten");
  }

  #newest(): string {
    return [...this.#truth.keys()].at(-1) ?? "";
  }

  async #verify(id: string): Promise<void> {
    const truth = this.#truth.get(id);
    if (truth === undefined) return;
    this.#doing = `restoring ${id}`;
    const difference = await this.#repo.difference(id, truth);
    if (difference !== null) throw new Error(`MISMATCH: ${id} does not restore as it was: ${difference}; ${await this.#state(id)}`);
    this.#count("verified");
  }

  /** What a mismatch needs to be understood: whether the model itself is wrong, and since when. */
  async #state(id: string): Promise<string> {
    const wrong: string[] = [];
    if (this.#vm.running) await this.#vm.flush();
    for (const disk of this.#vm.attached) {
      const now = readFileSync(await rawCopy(disk.spec.path, join(this.#repo.dir, "now.raw")));
      const model = disk.at(0, disk.size);
      const at = now.findIndex((byte, i) => byte !== model[i]);
      if (at >= 0)
        wrong.push(
          `${disk.spec.name} at ${at}: ${now.subarray(at, at + 8).toString("hex")} instead of ${model.subarray(at, at + 8).toString("hex")}`,
        );
    }
    const bad: string[] = [];
    for (const [other, truth] of this.#truth) if (other !== id && (await this.#repo.difference(other, truth)) !== null) bad.push(other);
    return `also wrong: ${bad.join(", ") || "no other point"}; the disks now differ from their models: ${wrong.join(", ") || "no"}`;
  }

  async #verifyByCli(id: string): Promise<void> {
    const truth = this.#truth.get(id);
    if (truth === undefined) return;
    this.#doing = `restoring ${id} by the command line`;
    const difference = await this.#repo.differenceByCli(id, truth, async (path) => await rawCopy(path, `${path}.raw`));
    if (difference !== null) throw new Error(`MISMATCH: ${id} does not restore as it was: ${difference}`);
    this.#count("verified by the command line");
  }

  /** Every point, the store, and the host. */
  async end(): Promise<void> {
    const { say, seed } = this.#options;
    this.#rng = new Rng(seed, 0);
    const { points, unreadable } = await this.#repo.repository.catalog.list();
    const listed = new Set(points.map(({ id }) => id));
    const lost = [...this.#truth.keys()].filter((id) => !listed.has(id));
    const extra = [...listed].filter((id) => !this.#truth.has(id));
    if (lost.length + extra.length + unreadable.length > 0)
      throw new Error(`seed ${seed}: points lost: ${lost.join(", ")}; unexpected: ${extra.join(", ")}; unreadable: ${unreadable.length}`);
    if (this.#afterKill) await this.#here("auto");
    say(`restoring all ${this.#truth.size} points`);
    for (const id of this.#truth.keys()) await this.#verify(id);
    await this.#verifyByCli(this.#newest());
    const check = await this.#repo.cli(["check", "--json"]);
    const { ok } = JSON.parse(check.stdout) as { readonly ok: boolean };
    if (!ok) throw new Error(`seed ${seed}: check found damage: ${check.stdout}`);
    await this.#vm.stop();
    for (const disk of this.#vm.attached) this.#count("bitmaps in the images at the end", (await bitmapsOf(disk)).length);
  }

  #count(what: string, by: number = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }
}

/** A reason without what differs from case to case. */
function general(reason: string): string {
  return reason
    .replace(/ts-[0-9a-f-]+/g, "…")
    .replace(/\d{2,}/g, "…")
    .slice(0, 120);
}

/** Directories of runs for a machine, of the living and the dead. */
function ownDirectories(uuid: string): string[] {
  return readdirSync("/var/tmp")
    .filter((name) => name.startsWith("ts-"))
    .filter((name) => {
      const record = join("/var/tmp", name, "job.json");
      return existsSync(record) && readFileSync(record, "utf8").includes(uuid);
    });
}
