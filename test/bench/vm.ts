import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { defineDomain, type LabDomain, LabError, type LibvirtLab, run } from "../lab/index.ts";
import { say } from "./measure.ts";

const GiB = 2 ** 30;
/** The machine's own files, in an order of names: what every Debian has, more or less of it. */
const SOURCES: readonly string[] = ["usr", "opt", "root", "home", "srv", "var/lib"];

/** A paused virtual machine with one disk of real files' data. */
export interface DataVm {
  readonly domain: LabDomain;
  readonly image: string;
  /** bytes of data, from the start of the disk on; behind them it is empty */
  readonly bytes: number;
  /** bytes of the disk */
  readonly size: number;
  readonly sha256: string;
}

/** Bytes of data for a machine whose copies, `copies` of them, fit in the memory or disk that `dir` lies on. */
export function fitting(wanted: number, copies: number, dir: string): number {
  const { bavail, bsize, type } = statfsSync(dir);
  const tmpfs = type === 0x01021994;
  const available = Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? "0") * 1024;
  const room = Math.min(bavail * bsize, tmpfs ? available - 2.5 * GiB : Infinity);
  const fits = Math.floor(room / copies / (GiB / 4)) * (GiB / 4);
  if (fits < GiB / 4) throw new LabError(`${dir} has room for less than 256 MiB of data in ${copies} copies`);
  if (fits < wanted)
    say(`${dir} has room for ${fits / GiB} GiB of data, not for ${wanted / GiB} (${copies} copies of it are needed at a time)`);
  return Math.min(wanted, fits);
}

/** Makes the image, defines the domain and starts it, paused. The disk has 8 GiB, or as many as the data needs. */
export async function dataVm(lab: LibvirtLab, bytes: number): Promise<DataVm> {
  const image = join(lab.dir, "bench.qcow2");
  const size = Math.max(8 * GiB, Math.ceil(bytes / GiB) * GiB);
  const raw = `${image}.raw`;
  say(`Making ${bytes / GiB} GiB of data: a tar of ${SOURCES.map((path) => `/${path}`).join(" ")}, as far as it goes`);
  const { length, sha256 } = await tarOf(bytes, raw);
  await run("truncate", ["-s", String(size), raw]);
  await run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", raw, image], { timeoutMs: 600_000 });
  rmSync(raw);
  const domain = await defineDomain(lab, { name: "bench", disks: [{ name: "vda", path: image, format: "qcow2" }] });
  await domain.start();
  return { domain, image, bytes: length, size, sha256 };
}

/** A file of so many bytes of the same data. */
export async function dataFile(lab: LibvirtLab, bytes: number): Promise<string> {
  const path = join(lab.dir, "data");
  const { length } = await tarOf(bytes, path);
  if (length < bytes) throw new LabError(`this machine has ${length} bytes of files, ${bytes} are needed`);
  return path;
}

async function tarOf(bytes: number, output: string): Promise<{ readonly length: number; readonly sha256: string }> {
  const order = ["--sort=name", "--numeric-owner", "--one-file-system", "--warning=no-all"];
  const tar = spawn("tar", ["-C", "/", ...order, "-c", ...SOURCES], { stdio: ["ignore", "pipe", "ignore"] });
  const ended = once(tar, "close");
  const hash = createHash("sha256");
  let length = 0;
  await pipeline(
    tar.stdout,
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        const part = chunk.subarray(0, bytes - length);
        length += part.length;
        hash.update(part);
        yield part;
        if (length >= bytes) return;
      }
    },
    createWriteStream(output, { highWaterMark: 2 ** 22 }),
  );
  await ended;
  return { length, sha256: hash.digest("hex") };
}

/** Removes every checkpoint of a domain, so that the next full backup finds it as the first one did. */
export async function forgetCheckpoints(domain: LabDomain): Promise<void> {
  const names = (await domain.lab.virsh("checkpoint-list", "--name", domain.name)).split("\n").map((name) => name.trim());
  for (const name of names.filter((line) => line !== "")) await domain.lab.virsh("checkpoint-delete", domain.name, name);
}

/** An empty directory of this name in the lab's. */
export function freshDir(lab: LibvirtLab, name: string): string {
  const dir = join(lab.dir, name);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  return dir;
}

/** Runs `work` while the domain's disk is exported as a backup job exports it. */
export async function withExport<T>(domain: LabDomain, work: (uri: string) => Promise<T>): Promise<T> {
  const { lab } = domain;
  const [socket, scratch, xml] = [join(lab.dir, "export.sock"), join(lab.dir, "export.scratch"), join(lab.dir, "export.xml")];
  writeFileSync(
    xml,
    `<domainbackup mode='pull'><server transport='unix' socket='${socket}'/><disks><disk name='vda' backup='yes' type='file'><scratch file='${scratch}'/></disk></disks></domainbackup>`,
  );
  await lab.virsh("backup-begin", domain.name, xml);
  try {
    return await work(`nbd+unix:///vda?socket=${socket}`);
  } finally {
    await lab.virsh("domjobabort", domain.name);
    rmSync(scratch, { force: true });
  }
}
