import { execFile } from "node:child_process";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";

import { childEnvironment } from "../../lib/child-environment.ts";
import { errorText } from "../../lib/errors.ts";
import { NbdError, NbdPool, QemuNbd } from "../../nbd/index.ts";
import type { PointDisk } from "../../repository/index.ts";
import { RestoreError, targetError } from "../errors.ts";
import type { RestoreTarget } from "../target.ts";
import { requireAbsent, syncPath } from "./raw-file.ts";

const execute = promisify(execFile);
/** ms qemu-nbd may take to write out what it still holds */
const END_PATIENCE = 600_000;

/** A new qcow2 file with the options of the image that was backed up, written through qemu-nbd; under its name only when it is complete. */
export async function newQcow2File(path: string, disk: PointDisk, signal: AbortSignal): Promise<RestoreTarget> {
  await requireAbsent(path);
  const partial = `${path}.partial`;
  await rm(partial, { force: true });
  const runtime = await mkdtemp(join(tmpdir(), "ts-restore-"));
  try {
    await tool("qemu-img", ["create", "-q", "-f", "qcow2", "-o", qcow2Options(disk.imageInfo), partial, String(disk.size)], path);
    const server = await startServer(partial, join(runtime, "nbd.sock"), signal);
    try {
      const pool = await NbdPool.open({ socket: server.socket }, { connections: 4, signal });
      return new Qcow2Target({ path, partial, runtime, server, pool, grain: grainOf(disk.imageInfo) });
    } catch (thrown) {
      await server.stop();
      throw thrown;
    }
  } catch (thrown) {
    await rm(partial, { force: true });
    await rm(runtime, { recursive: true, force: true });
    throw thrown;
  }
}

/** The creation options that matter to a guest or to space, taken over from `qemu-img info`; anything else gets QEMU's defaults. */
export function qcow2Options(imageInfo: unknown): string {
  const info = record(imageInfo);
  const data = record(record(info["format-specific"])["data"]);
  const options: string[] = [`compat=${data["compat"] === "0.10" ? "0.10" : "1.1"}`];
  const cluster = info["cluster-size"];
  if (
    info["format"] === "qcow2" &&
    typeof cluster === "number" &&
    [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152].includes(cluster)
  ) {
    options.push(`cluster_size=${cluster}`);
  }
  if (options[0] === "compat=1.1") {
    if (data["lazy-refcounts"] === true) options.push("lazy_refcounts=on");
    if (data["extended-l2"] === true) options.push("extended_l2=on");
  }
  return options.join(",");
}

/** Smallest stretch of zeros worth leaving out: a cluster, but not so small that there are very many writes. */
function grainOf(imageInfo: unknown): number {
  const cluster = /cluster_size=(\d+)/.exec(qcow2Options(imageInfo))?.[1];
  return Math.max(4096, Number(cluster ?? 65_536));
}

interface Parts {
  readonly path: string;
  readonly partial: string;
  readonly runtime: string;
  readonly server: QemuNbd;
  readonly pool: NbdPool;
  readonly grain: number;
}

class Qcow2Target implements RestoreTarget {
  readonly path: string;
  readonly blank = true;
  readonly grain: number;
  readonly #parts: Parts;
  #open = true;

  constructor(parts: Parts) {
    this.path = parts.path;
    this.grain = parts.grain;
    this.#parts = parts;
  }

  async write(offset: number, bytes: Buffer): Promise<void> {
    try {
      await this.#parts.pool.write([{ offset, from: bytes }]);
    } catch (thrown) {
      if (/no space left/i.test(errorText(thrown)))
        throw targetError(Object.assign(new Error("no space", { cause: thrown }), { code: "ENOSPC" }), this.path);
      throw thrown;
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#parts.pool.zero(offset, length);
  }

  async finish(): Promise<void> {
    await this.#parts.pool.flush();
    await this.#close();
    await syncPath(this.#parts.partial);
    await rename(this.#parts.partial, this.path);
    await syncPath(dirname(this.path));
  }

  async discard(): Promise<void> {
    await this.#close();
    await rm(this.#parts.partial, { force: true });
  }

  async #close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#parts.pool.close();
    await this.#parts.server.stop();
    await rm(this.#parts.runtime, { recursive: true, force: true });
  }
}

async function startServer(image: string, socket: string, signal: AbortSignal): Promise<QemuNbd> {
  const args = ["--format=qcow2", "--discard=unmap", "--cache=writeback"];
  try {
    return await QemuNbd.start({ image: resolve(image), socket, args, patience: END_PATIENCE, signal });
  } catch (cause) {
    if (!(cause instanceof NbdError)) throw cause;
    const hint =
      cause.code === "server-missing" ? { hint: "Install QEMU's utilities (Debian: qemu-utils), or restore with --format raw" } : {};
    throw new RestoreError("tool-failed", `qemu-nbd cannot write ${image}: ${cause.message}`, { cause, ...hint });
  }
}

async function tool(name: string, args: readonly string[], path: string): Promise<void> {
  try {
    await execute(name, [...args], { env: childEnvironment() });
  } catch (cause) {
    throw new RestoreError("tool-failed", `${name} could not make ${path}: ${errorText(cause)}`, { cause });
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
