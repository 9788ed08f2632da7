import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { basename, join } from "node:path";
import { LabError, run } from "./exec.ts";
import { tempDir } from "./temp-dir.ts";

/** How an image is made. `size` in bytes or qemu-img's words ("10G"). */
export interface ImageOptions {
  readonly size: number | string;
  readonly format?: "qcow2" | "raw";
  readonly clusterSize?: number | string;
  /** `0.10` is qcow2 version 2, without bitmaps. */
  readonly compat?: "0.10" | "1.1";
  /** External raw data file of a qcow2 (`data_file_raw=on`), made with it: QEMU's CBT overlay. */
  readonly dataFile?: string;
  readonly backingFile?: string;
  /** Any other `-o` options: `extended_l2=on`. */
  readonly options?: readonly string[];
}

/** Makes an empty image at `path` and gives the path back. @throws LabError */
export async function createImage(path: string, image: ImageOptions): Promise<string> {
  const { format = "qcow2" } = image;
  const options = [...(image.options ?? [])];
  if (image.clusterSize !== undefined) options.push(`cluster_size=${image.clusterSize}`);
  if (image.compat !== undefined) options.push(`compat=${image.compat}`);
  if (image.dataFile !== undefined) options.push(`data_file=${image.dataFile}`, "data_file_raw=on");
  const more = options.length === 0 ? [] : ["-o", options.join(",")];
  if (image.backingFile !== undefined) more.push("-b", image.backingFile, "-F", "qcow2");
  await run("qemu-img", ["create", "-q", "-f", format, ...more, path, String(image.size)]);
  return path;
}

/** Writes to an image that no domain has open: qemu-io commands in order; qcow2's own bitmaps are kept current. @throws LabError */
export async function qemuIo(path: string, ...commands: readonly string[]): Promise<string> {
  const format = await formatOf(path);
  const output = await run("qemu-io", ["-f", format, "-d", "unmap", ...commands.flatMap((command) => ["-c", command]), path]);
  if (/failed|invalid|non-numeric|not supported/i.test(output)) throw new LabError(`qemu-io on ${path}: ${output}`);
  return output;
}

async function formatOf(path: string): Promise<string> {
  const info = JSON.parse(await run("qemu-img", ["info", "-U", "--output=json", path])) as { format: string };
  return info.format;
}

/**
 * The content of an image as a sparse raw file, for comparison. Of an image that a domain
 * has open it shows what was flushed: see `snapshot`.
 */
export async function rawCopy(path: string, output: string = join(tempDir("raw"), `${basename(path)}.raw`)): Promise<string> {
  await run("qemu-img", ["convert", "-U", "-f", await formatOf(path), "-O", "raw", "-S", "4k", path, output], { timeoutMs: 600_000 });
  return output;
}

const STEP = 1 << 22;

/**
 * Compares the content of two raw files byte for byte; what both have as holes is passed over at once.
 * @returns undefined when they are the same; else one line with the first difference
 */
export async function compareRaw(a: string, b: string): Promise<string | undefined> {
  const [sizeA, sizeB] = [statSync(a).size, statSync(b).size];
  if (sizeA !== sizeB) return `sizes differ: ${a} ${sizeA}, ${b} ${sizeB}`;
  try {
    await run("qemu-img", ["compare", "-U", "-f", "raw", "-F", "raw", a, b], { timeoutMs: 600_000 });
    return undefined;
  } catch (error) {
    const mismatch = /Content mismatch at offset \d+/.exec(String(error))?.[0];
    if (mismatch === undefined) throw error;
    return `${mismatch}: ${a}, ${b}`;
  }
}

/** SHA-256 of a file, hex. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: STEP })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
