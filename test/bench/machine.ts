import { readFileSync } from "node:fs";
import { availableParallelism, release, totalmem } from "node:os";
import { join } from "node:path";
import { checkout, type LibvirtLab, run } from "../lab/index.ts";
import { peerVersion } from "./peer.ts";

/** What a figure is worth nothing without. */
export interface MachineFacts {
  /** ISO 8601 */
  readonly time: string;
  readonly commit: string;
  readonly processor: string;
  readonly processors: number;
  /** bytes */
  readonly memory: number;
  readonly kernel: string;
  /** where data, repositories and restored images lie */
  readonly fileSystem: string;
  readonly versions: Readonly<Record<string, string>>;
}

export async function machineFacts(lab: LibvirtLab): Promise<MachineFacts> {
  const manifest = JSON.parse(readFileSync(join(checkout(), "package.json"), "utf8")) as { readonly version: string };
  return {
    time: new Date().toISOString(),
    commit: (await run("git", ["-C", checkout(), "rev-parse", "--short=12", "HEAD"]).catch(() => "unknown")).trim(),
    processor: /^model name\s*:\s*(.+)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "unknown",
    processors: availableParallelism(),
    memory: totalmem(),
    kernel: release(),
    fileSystem: (await run("stat", ["-f", "-c", "%T", lab.dir])).trim(),
    versions: {
      thinstream: manifest.version,
      virtnbdbackup: await peerVersion(),
      libvirt: lab.versions.libvirt,
      QEMU: lab.versions.qemu,
      libnbd: /\d[\d.]*/.exec(await run("nbdcopy", ["--version"]))?.[0] ?? "unknown",
      Node: process.versions.node,
    },
  };
}
