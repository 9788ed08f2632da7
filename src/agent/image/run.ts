import { stat } from "node:fs/promises";
import { join } from "node:path";
import { errorText } from "../../lib/errors.ts";
import type { QemuNbd } from "../../nbd/index.ts";
import type { SourceDisk } from "../backup-source.ts";
import { SourceError } from "../errors.ts";
import type { JobDir } from "../job-dir.ts";
import { type DiskSpec, NbdDisk } from "../nbd-disk.ts";
import { holdDevice } from "./device-hold.ts";
import { filesOf, type FoundImage, inspectImage, requireWithin } from "./inspect.ts";
import type { ImageOptions, ImageSpec, ImageStep } from "./options.ts";
import { planImage } from "./plan.ts";
import { serveImage } from "./serve.ts";
import { StillDisk, StillFiles } from "./still-disk.ts";

const SECTOR = 512;

/** What a run has on the host, and its two ends. The end does its work once, whichever is called and how often. */
export class ImageRun {
  readonly warnings: string[] = [];
  readonly #options: ImageOptions;
  readonly #unlock: () => Promise<void>;
  readonly #dir: JobDir;
  readonly #servers: QemuNbd[] = [];
  readonly #disks: NbdDisk[] = [];
  readonly #files: StillFiles[] = [];
  readonly #held: (() => Promise<void>)[] = [];
  #ended: Promise<readonly string[]> | undefined;

  constructor(options: ImageOptions, unlock: () => Promise<void>, dir: JobDir) {
    this.#options = options;
    this.#unlock = unlock;
    this.#dir = dir;
  }

  /** Opens one image for reading; `index` is its place among the run's. */
  async export(image: ImageSpec, index: number): Promise<SourceDisk> {
    const { signal, connections = 4, level, bases } = this.#options;
    const { name } = image;
    const found = await inspectImage(image, signal);
    if (this.#options.within !== undefined) await requireWithin(found, this.#options.within);
    const { path, info, backing, isDevice } = found;
    if (isDevice) this.#held.push(await holdDevice(path));
    const files = await StillFiles.watch(filesOf(found));
    const { base, ...plan } = planImage(name, { info, backing, level, bases });
    const socket = join(this.#dir.path, `${index}.sock`);
    const server = await serveImage(found, { name, socket, bitmap: base?.checkpoint ?? null, signal });
    this.#servers.push(server);
    await this.#warnOfOddSize(found);
    const standing = base === null ? null : { point: base.point, size: base.size, context: `qemu:dirty-bitmap:${base.checkpoint}` };
    const spec: DiskSpec = { name, ...plan, base: standing, checkpoint: null, imageInfo: info };
    const explain = async (cause: Error): Promise<Error> => lost(path, server, cause);
    const disk = await NbdDisk.open(spec, { address: { socket, exportName: name }, connections, signal, explain });
    this.#disks.push(disk);
    this.#files.push(files);
    return new StillDisk(disk, files);
  }

  // A machine sees whole sectors, and so does every reader of the image but one that takes it for a file.
  async #warnOfOddSize({ path, format, info, isDevice }: FoundImage): Promise<void> {
    if (format !== "raw" || isDevice) return;
    const { size } = await stat(path);
    if (size % SECTOR === 0) return;
    this.warnings.push(
      `the image ${path} has ${size} bytes; kept as the ${info["virtual-size"]} bytes that a machine sees, zeros at the end`,
    );
  }

  /** See `BackupSource.requireStill`: what is read last is read after a disk's extents have ended. */
  async requireStill(): Promise<void> {
    for (const files of this.#files) await files.requireStill();
  }

  /** See `BackupSource.commit`. */
  async commit(): Promise<readonly string[]> {
    this.#ended ??= this.#end(true);
    return this.#ended;
  }

  /** See `BackupSource.abort`. */
  async abort(): Promise<void> {
    this.#ended ??= this.#end(false);
    await this.#ended;
  }

  async #end(committed: boolean): Promise<readonly string[]> {
    const warnings: string[] = [];
    await attempt(warnings, "what served the images could not be ended", async () => {
      const changed = committed ? await Promise.all(this.#files.map((files) => files.changed())) : [];
      for (const path of changed) if (path !== null) warnings.push(`the image ${path} was written to during the backup`);
      await Promise.all(this.#disks.map((disk) => disk.close()));
      await Promise.all(this.#servers.map((server) => server.stop()));
      await Promise.all(this.#held.map((release) => release()));
    });
    await this.#step("servers-ended");
    await attempt(warnings, `the run's directory ${this.#dir.path} could not be removed`, () => this.#dir.remove());
    await this.#step("directory-removed");
    await this.#unlock();
    if (!committed) for (const problem of warnings) this.#options.log.warn({ name: this.#options.name }, problem);
    return warnings;
  }

  async #step(name: ImageStep): Promise<void> {
    await this.#options.onStep?.(name);
  }
}

function lost(path: string, server: QemuNbd, cause: Error): SourceError {
  const why = server.epitaph === null ? "its qemu-nbd broke off" : `its qemu-nbd ${server.epitaph}`;
  return new SourceError("job-lost", `the image ${path} cannot be read any more: ${why}`, { cause });
}

async function attempt(problems: string[], what: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    problems.push(`${what}: ${errorText(error)}`);
  }
}
