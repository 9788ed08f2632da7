import { type LibvirtLab, startLibvirt } from "../../lab/index.ts";
import { medianSeconds, type Series } from "../measure.ts";
import type { RowResult } from "../results.ts";
import { type DataVm, dataVm, fitting } from "../vm.ts";

/** What a row measured, before it is known when and where. */
export type Measured = Omit<RowResult, "row" | "machine">;

/** How many copies of the data row 3 has at a time: source, two backups, a restored image. */
const COPIES = 3.2;

/** What rows share: the private libvirt, and one machine with real data, made when the first row needs it. */
export class World {
  readonly lab: LibvirtLab;
  readonly runs: number;
  readonly #wanted: number;
  #vm: Promise<DataVm> | null = null;

  private constructor(lab: LibvirtLab, runs: number, wanted: number) {
    this.lab = lab;
    this.runs = runs;
    this.#wanted = wanted;
  }

  /** @param wanted bytes of data */
  static async start(runs: number, wanted: number): Promise<World> {
    return new World(await startLibvirt("host"), runs, wanted);
  }

  vm(): Promise<DataVm> {
    this.#vm ??= dataVm(this.lab, fitting(this.#wanted, COPIES, this.lab.dir));
    return this.#vm;
  }

  /** What the disk holds, for a row's notes. */
  describe(vm: DataVm): string {
    return `${(vm.bytes / 2 ** 30).toFixed(2)} GiB of real files (a tar of the machine's own, SHA-256 ${vm.sha256.slice(0, 16)}…) in a qcow2 of ${vm.size / 2 ** 30} GiB`;
  }

  /** What row 2 changes: 1 GiB, less where the wanted data is less. */
  get dirtyBytes(): number {
    return Math.min(2 ** 30, this.#wanted);
  }

  async stop(): Promise<void> {
    await this.lab.stop();
  }
}

/** How many times faster `two` was than `one`, by the medians. */
export function ratioOf(one: Series, two: Series): number {
  return medianSeconds(one) / one.bytes / (medianSeconds(two) / two.bytes);
}
