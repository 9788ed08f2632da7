import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createImage, defineDomain, type LabDomain, LabError, qdevPath } from "../../lab/index.ts";
import { alternate, type Contestant, medianSeconds, say, type Series } from "../measure.ts";
import { backup, expectLevel, init, type Repo } from "../ours.ts";
import { peerBackup, type PeerJob } from "../peer.ts";
import { dataFile, freshDir } from "../vm.ts";
import type { Measured, World } from "./world.ts";

const PIECE = 65_536;
const TiB = 2 ** 40;

/** Row 2: what changed on a huge, thin disk, and nothing changed on it. */
export async function incrementalRow(world: World): Promise<Measured> {
  const pieces = Math.round(world.dirtyBytes / PIECE);
  const files = await pieceFiles(world, pieces);
  const our = await ThinDisk.make(world, "thin-ours", files);
  const theirs = await ThinDisk.make(world, "thin-peer", files);
  const repo: Repo = { url: `file://${join(freshDir(world.lab, "thin-repo"), "repo")}`, keyFile: join(world.lab.dir, "thin-key") };
  await init(repo);
  const job: PeerJob = { uri: world.lab.uri, domain: theirs.domain.name, dir: freshDir(world.lab, "thin-peer"), runtime: world.lab.dir };
  for (const disk of [our, theirs]) await disk.write();
  expectLevel(await backup(repo, { uri: world.lab.uri, name: our.domain.name }), "full");
  await peerBackup(job, "full");
  const dirty = await alternate([ours(our, repo, "changes"), peer(theirs, job, "changes")], world.runs);
  const still = await alternate([ours(our, repo, "nothing dirty"), peer(theirs, job, "nothing dirty")], world.runs);
  for (const disk of [our, theirs]) await disk.remove();
  const [ourDirty, theirDirty, ourStill, theirStill] = [...dirty, ...still] as [Series, Series, Series, Series];
  return {
    title: `Incremental backup of a thin disk of 1 TiB, ${(world.dirtyBytes / 2 ** 30).toFixed(2)} GiB dirty in ${pieces} scattered pieces of 64 KiB`,
    series: [...dirty, ...still],
    bars: [
      { what: "wall time with scattered changes, of virtnbdbackup's", value: shareOf(ourDirty, theirDirty), unit: "%", most: 100 / 3 },
      { what: "wall time with nothing dirty, of virtnbdbackup's", value: shareOf(ourStill, theirStill), unit: "%", most: 50 },
    ],
    notes: [
      "Each side has a qcow2 of its own, both with the same pieces at the same places, and its own chain from a full backup on; before every run each piece is written anew with other data of real files, through QEMU's device as a guest would.",
      "That a run had exactly these bytes to deal with is checked in what each side says of it.",
      "thinstream: `backup` (level auto), lz4 and encryption; virtnbdbackup: `-l inc -z -n`. Process start to exit.",
    ],
  };
}

function shareOf(one: Series, two: Series): number {
  return (medianSeconds(one) / medianSeconds(two)) * 100;
}

function ours(disk: ThinDisk, repo: Repo, what: "changes" | "nothing dirty"): Contestant {
  const expected = what === "nothing dirty" ? 0 : disk.bytes;
  return {
    name: `thinstream, ${what}`,
    bytes: expected,
    prepare: async () => await disk.prepare(expected > 0),
    run: async () => {
      const done = await backup(repo, { uri: disk.domain.lab.uri, name: disk.domain.name });
      expectLevel(done, "incremental");
      expectBytes("thinstream", done.json.disks[0]?.dirtyBytes, expected);
      return done.took;
    },
  };
}

function peer(disk: ThinDisk, job: PeerJob, what: "changes" | "nothing dirty"): Contestant {
  const expected = what === "nothing dirty" ? 0 : disk.bytes;
  return {
    name: `virtnbdbackup -z, ${what}`,
    bytes: expected,
    prepare: async () => await disk.prepare(expected > 0),
    run: async () => await peerBackup(job, "inc"),
    after: async () => expectBytes("virtnbdbackup", lastDataSize(job.dir), expected),
  };
}

function expectBytes(who: string, said: number | undefined, expected: number): void {
  if (said !== expected) throw new LabError(`${who} found ${said} bytes changed, there were ${expected}`);
}

/** What the head of the newest increment says of it. */
function lastDataSize(dir: string): number | undefined {
  const numbers = readdirSync(dir).flatMap((name) => /\.inc\.virtnbdbackup\.(\d+)\.data$/.exec(name)?.[1] ?? []);
  const last = numbers
    .map(Number)
    .toSorted((a, b) => a - b)
    .at(-1);
  if (last === undefined) return undefined;
  const file = openSync(join(dir, `vda.inc.virtnbdbackup.${last}.data`), "r");
  const head = Buffer.alloc(4096);
  const length = readSync(file, head);
  closeSync(file);
  const found = /"dataSize": (\d+)/.exec(head.toString("latin1", 0, length))?.[1];
  return found === undefined ? undefined : Number(found);
}

/** Files of 64 KiB, each with other data. */
async function pieceFiles(world: World, count: number): Promise<readonly string[]> {
  const data = await dataFile(world.lab, count * PIECE);
  const dir = freshDir(world.lab, "pieces");
  const file = openSync(data, "r");
  const room = Buffer.alloc(PIECE);
  const names = Array.from({ length: count }, (_, i) => join(dir, String(i)));
  for (const [i, name] of names.entries()) {
    if (readSync(file, room) !== PIECE) throw new LabError(`${data} has too little data`);
    // Pieces of a tar may be alike, or zeros; these are not.
    room.writeUInt32LE(i + 1, 0);
    writeFileSync(name, room);
  }
  closeSync(file);
  rmSync(data);
  return names;
}

/** A thin disk of 1 TiB of a paused domain, and the pieces that are written to it. */
class ThinDisk {
  readonly domain: LabDomain;
  readonly bytes: number;
  readonly #files: readonly string[];
  readonly #places: readonly number[];
  #turn = 0;

  private constructor(domain: LabDomain, files: readonly string[]) {
    this.domain = domain;
    this.#files = files;
    this.bytes = files.length * PIECE;
    // The same places for every disk: a step that is prime to the number of granules visits each only once, in no order of note.
    this.#places = files.map((_, i) => (i * 10_267_421) % (TiB / PIECE));
  }

  static async make({ lab }: World, name: string, files: readonly string[]): Promise<ThinDisk> {
    mkdirSync(lab.dir, { recursive: true });
    const path = await createImage(join(lab.dir, `${name}.qcow2`), { size: TiB });
    const domain = await defineDomain(lab, { name, disks: [{ name: "vda", path, format: "qcow2" }] });
    await domain.start();
    return new ThinDisk(domain, files);
  }

  async prepare(dirty: boolean): Promise<void> {
    if (dirty) await this.write();
  }

  /** Writes every piece, at its place but with the data of another file than last time. */
  async write(): Promise<void> {
    const { domain } = this;
    this.#turn += 1;
    const log = join(domain.lab.dir, "fs/log/qemu", `${domain.name}.log`);
    const before = readFileSync(log).length;
    const device = qdevPath(domain, "vda");
    const lines = this.#places.map((place, i) => {
      const file = this.#files[(i + this.#turn) % this.#files.length];
      return `qemu-monitor-command ${domain.name} --hmp 'qemu-io -d ${device} "write -q -s ${file} ${place * PIECE} ${PIECE}"'\n`;
    });
    const started = performance.now();
    await virshScript(domain.lab.uri, lines);
    const said = readFileSync(log).subarray(before).toString();
    if (/failed|invalid|error/i.test(said)) throw new LabError(`writing to ${domain.name}: ${said.slice(0, 500)}`);
    say(`${domain.name}: ${lines.length} pieces written in ${((performance.now() - started) / 1000).toFixed(0)} s`);
  }

  async remove(): Promise<void> {
    await this.domain.destroy();
    await this.domain.undefine();
    for (const disk of this.domain.spec.disks) rmSync(disk.path);
  }
}

/** Many commands over one connection. */
async function virshScript(uri: string, lines: readonly string[]): Promise<void> {
  const virsh = spawn("virsh", ["-q", "-c", uri], { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  virsh.stdout.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)));
  virsh.stderr.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)));
  const ended = once(virsh, "close");
  virsh.stdin.on("error", () => undefined); // it ended early; its exit code tells
  for (const line of lines) if (!virsh.stdin.write(line)) await Promise.race([once(virsh.stdin, "drain"), ended]);
  virsh.stdin.end();
  const [code] = (await ended) as [number | null];
  if (code !== 0) throw new LabError(`virsh ended with ${code}: ${said}`);
}
