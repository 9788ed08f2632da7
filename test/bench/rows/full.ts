import { rmSync } from "node:fs";
import { join } from "node:path";
import { checkout } from "../../lab/index.ts";
import type { CodecFigures } from "../codecs.ts";
import { alternate, type Contestant, say, type Series, timed } from "../measure.ts";
import { backup, expectLevel, init, type Repo } from "../ours.ts";
import { peerBackup } from "../peer.ts";
import { type DataVm, forgetCheckpoints, freshDir, withExport } from "../vm.ts";
import { type Measured, ratioOf, type World } from "./world.ts";

/** Memory as `thinstream.sh` sets it up: without it the codecs alone would spend their time on page faults, and the bar would be too low. */
const MALLOC = {
  MALLOC_MMAP_THRESHOLD_: "33554432",
  MALLOC_TRIM_THRESHOLD_: "2147483648",
  MALLOC_TOP_PAD_: "1048576",
  MALLOC_ARENA_MAX: "4",
};

/** Row 1: one full backup, beside the peer's, and beside what the codecs could do at best. */
export async function fullRow(world: World): Promise<Measured> {
  const vm = await world.vm();
  const codecs = new Codecs(vm);
  const series = await alternate([ours(world, vm), peer(world, vm), codecs.contestant(), nbdcopy(vm)], world.runs);
  const [our, theirs, bound] = series as [Series, Series, Series];
  return {
    title: `Full backup of one VM, ${(vm.bytes / 2 ** 30).toFixed(2)} GiB of data on a disk of ${vm.size / 2 ** 30} GiB`,
    series,
    bars: [
      { what: "throughput, of virtnbdbackup -z", value: ratioOf(theirs, our), unit: "×", least: 3 },
      { what: "throughput, of nbdcopy piped through the same codecs", value: ratioOf(bound, our) * 100, unit: "%", least: 60 },
    ],
    notes: [
      `${world.describe(vm)}; the domain is live and paused.`,
      "thinstream: `backup` with its defaults (LZ4, AES-256-GCM, keyed BLAKE3) into a new `file://` repository, process start to exit.",
      "virtnbdbackup: `-l full -z -n` into an empty directory: LZ4, no encryption, no content hash.",
      `nbdcopy | codecs: \`nbdcopy URI -\` into a thread for each processor that hashes, compresses and seals (test/bench/codecs.ts), nothing kept. ${codecs.say()}`,
      "nbdcopy to null: `nbdcopy URI null:`, holes included as holes.",
    ],
  };
}

function ours(world: World, vm: DataVm): Contestant {
  const { lab } = world;
  let repo: Repo;
  return {
    name: "thinstream",
    bytes: vm.bytes,
    prepare: async () => {
      await forgetCheckpoints(vm.domain);
      repo = { url: `file://${join(freshDir(lab, "ours"), "repo")}`, keyFile: join(lab.dir, "key") };
      await init(repo);
    },
    run: async () => {
      const done = await backup(repo, { uri: lab.uri, name: vm.domain.name });
      expectLevel(done, "full");
      return done.took;
    },
    after: async () => rmSync(join(lab.dir, "ours"), { recursive: true, force: true }),
  };
}

function peer(world: World, vm: DataVm): Contestant {
  const { lab } = world;
  return {
    name: "virtnbdbackup -z",
    bytes: vm.bytes,
    prepare: async () => {
      await forgetCheckpoints(vm.domain);
      freshDir(lab, "peer");
    },
    run: async () => await peerBackup({ uri: lab.uri, domain: vm.domain.name, dir: join(lab.dir, "peer"), runtime: lab.dir }, "full"),
    after: async () => rmSync(join(lab.dir, "peer"), { recursive: true, force: true }),
  };
}

function nbdcopy(vm: DataVm): Contestant {
  return {
    name: "nbdcopy to null",
    bytes: vm.bytes,
    run: async () => await withExport(vm.domain, async (uri) => await timed("nbdcopy", [uri, "null:"])),
  };
}

class Codecs {
  readonly #vm: DataVm;
  #figures: CodecFigures | null = null;

  constructor(vm: DataVm) {
    this.#vm = vm;
  }

  contestant(): Contestant {
    const vm = this.#vm;
    const program = join(checkout(), "test/bench/codecs.ts");
    // nbdcopy is told by a closed pipe that no more is wanted; that is no failure here.
    const line = 'nbdcopy "$1" - 2>/dev/null | node --disable-warning=ExperimentalWarning "$2" "$3"';
    return {
      name: "nbdcopy | codecs",
      bytes: vm.bytes,
      run: async () =>
        await withExport(vm.domain, async (uri) => {
          const took = await timed("sh", ["-c", line, "sh", uri, program, String(vm.bytes)], { env: MALLOC });
          this.#figures = JSON.parse(took.stdout) as CodecFigures;
          say(`codecs: ${JSON.stringify(this.#figures)}`);
          return took;
        }),
    };
  }

  /** Where the threads' time went, in the last run. */
  say(): string {
    const figures = this.#figures;
    if (figures === null) return "";
    const gib = figures.bytes / 2 ** 30;
    const stages = (["read", "zeros", "hash", "lz4", "seal"] as const).map((name) => `${name} ${(figures[name] / gib).toFixed(2)}`);
    return `Seconds of one thread per GiB: ${stages.join(", ")}; ${Math.round((figures.storedBytes / figures.bytes) * 100)} % of the bytes remain.`;
  }
}
