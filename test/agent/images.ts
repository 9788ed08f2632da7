import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { type BackupSource, type BaseFacts, type ImageOptions, openImage } from "../../src/agent/index.ts";
import { silentLogger } from "../../src/lib/logger.ts";

/** Opens images as vda, vdb, …; `dir` is the runtime directory. */
export function images(dir: string, paths: readonly string[], more: Partial<ImageOptions> = {}): Promise<BackupSource> {
  return openImage({
    images: paths.map((path, index) => ({ name: `vd${String.fromCodePoint(97 + index)}`, path })),
    key: paths.join(),
    name: "test",
    level: "auto",
    bases: [],
    runtimeDir: dir,
    signal: new AbortController().signal,
    log: silentLogger,
    ...more,
  });
}

/** What a point that made `checkpoint` says of the disk vda. */
export function fact(checkpoint: string, size: number, imageInfo: unknown = null): BaseFacts {
  return { disk: "vda", point: "p", size, checkpoint, checkpointXml: null, imageInfo };
}

/** Command lines of the qemu-nbd processes that serve from a run's directory below `dir`. */
export function servers(dir: string): string[] {
  return execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line.startsWith("qemu-nbd") && line.includes(`${dir}/ts-`));
}

export function ours(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.startsWith("ts-"));
}
