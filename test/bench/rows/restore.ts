import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { LabError, run } from "../../lab/index.ts";
import { alternate, type Contestant, type Series, timed } from "../measure.ts";
import { backup, expectLevel, init, type Repo, restore } from "../ours.ts";
import { peerBackup, peerRestore } from "../peer.ts";
import { type DataVm, forgetCheckpoints, freshDir } from "../vm.ts";
import { type Measured, ratioOf, type World } from "./world.ts";

/** Row 3: a whole image out of the repository. */
export async function restoreRow(world: World): Promise<Measured> {
  const vm = await world.vm();
  const { lab } = world;
  const repo: Repo = { url: `file://${join(freshDir(lab, "ours"), "repo")}`, keyFile: join(lab.dir, "restore-key") };
  const job = { uri: lab.uri, domain: vm.domain.name, dir: freshDir(lab, "peer"), runtime: lab.dir };
  await forgetCheckpoints(vm.domain);
  await init(repo);
  expectLevel(await backup(repo, { uri: lab.uri, name: vm.domain.name }), "full");
  await forgetCheckpoints(vm.domain);
  await peerBackup(job, "full");
  const output = new Output(world, vm);
  const contestants: Contestant[] = [
    output.contestant("thinstream to raw", "vda.raw", async (dir) => (await restore(repo, dir, "raw")).took),
    output.contestant("thinstream to qcow2", "vda.qcow2", async (dir) => (await restore(repo, dir, "qcow2")).took),
    output.contestant("virtnbdrestore", "bench.qcow2", async (dir) => await peerRestore(job, dir)),
    output.contestant("qemu-img convert to raw", "vda.raw", async (dir) => await convert(vm, "raw", dir)),
    output.contestant("qemu-img convert to qcow2", "vda.qcow2", async (dir) => await convert(vm, "qcow2", dir)),
  ];
  const series = await alternate(contestants, world.runs);
  for (const dir of ["ours", "peer"]) rmSync(join(lab.dir, dir), { recursive: true, force: true });
  const [raw, qcow2, peer, convertRaw, convertQcow2] = series as [Series, Series, Series, Series, Series];
  const source = statSync(vm.image).blocks * 512;
  return {
    title: `Restore of ${(vm.bytes / 2 ** 30).toFixed(2)} GiB of data on a disk of ${vm.size / 2 ** 30} GiB`,
    series,
    bars: [
      { what: "throughput to raw, of virtnbdrestore", value: ratioOf(peer, raw), unit: "×", least: 3 },
      { what: "throughput to qcow2, of virtnbdrestore", value: ratioOf(peer, qcow2), unit: "×", least: 3 },
      { what: "throughput to raw, of qemu-img convert", value: ratioOf(convertRaw, raw) * 100, unit: "%", least: 70 },
      { what: "throughput to qcow2, of qemu-img convert", value: ratioOf(convertQcow2, qcow2) * 100, unit: "%", least: 70 },
      {
        what: "allocation of the restored raw file, of the source's",
        value: output.share("thinstream to raw", source),
        unit: "%",
        most: 105,
      },
      {
        what: "allocation of the restored qcow2, of the source's",
        value: output.share("thinstream to qcow2", source),
        unit: "%",
        most: 105,
      },
    ],
    notes: [
      `${world.describe(vm)}, from the repository and the directory that row 1's commands write.`,
      "virtnbdrestore writes qcow2 alone; to raw it would need a conversion on top, which is not counted against it.",
      "qemu-img convert: from the source image, with its defaults; it reads what the others have to decompress (and we to decrypt and verify as well).",
      `The restored images were compared with the source: ${output.verdict()}.`,
    ],
  };
}

async function convert(vm: DataVm, format: string, dir: string): Promise<Awaited<ReturnType<typeof timed>>> {
  return await timed("qemu-img", ["convert", "-U", "-f", "qcow2", "-O", format, vm.image, join(dir, `vda.${format}`)]);
}

/** Where images are restored to; remembers what they took up, and compares each kind with the source once. */
class Output {
  readonly #world: World;
  readonly #vm: DataVm;
  readonly #allocated = new Map<string, number>();

  constructor(world: World, vm: DataVm) {
    this.#world = world;
    this.#vm = vm;
  }

  contestant(name: string, file: string, run_: (dir: string) => Promise<Awaited<ReturnType<typeof timed>>>): Contestant {
    const { lab } = this.#world;
    const dir = join(lab.dir, "output");
    return {
      name,
      bytes: this.#vm.bytes,
      prepare: async () => void freshDir(lab, "output"),
      run: async () => await run_(dir),
      after: async () => {
        if (!this.#allocated.has(name)) await this.#compare(name, join(dir, file));
        rmSync(dir, { recursive: true });
      },
    };
  }

  async #compare(name: string, restored: string): Promise<void> {
    this.#allocated.set(name, statSync(restored).blocks * 512);
    const format = restored.endsWith(".raw") ? "raw" : "qcow2";
    const said = await run("qemu-img", ["compare", "-U", "-f", "qcow2", "-F", format, this.#vm.image, restored], { timeoutMs: 600_000 });
    if (!said.includes("identical")) throw new LabError(`${name} restored something else: ${said}`);
  }

  /** Percent of the source's allocation. */
  share(name: string, source: number): number {
    return ((this.#allocated.get(name) ?? NaN) / source) * 100;
  }

  verdict(): string {
    return `${[...this.#allocated.keys()].join(", ")} are identical to it`;
  }
}
