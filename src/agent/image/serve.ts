import { NbdError, QemuNbd } from "../../nbd/index.ts";
import { SourceError } from "../errors.ts";
import type { FoundImage } from "./inspect.ts";

export interface ServeOptions {
  /** The export's name. */
  readonly name: string;
  readonly socket: string;
  /** Persistent bitmap to show as `qemu:dirty-bitmap:<name>`; null for none. */
  readonly bitmap: string | null;
  readonly signal: AbortSignal;
}

/**
 * Serves an image for reading. No machine can have it open for writing then, nor open it so while this runs. Rejects `running`
 * where one has, `image-unusable`, `tool-missing`.
 */
export async function serveImage(found: FoundImage, options: ServeOptions): Promise<QemuNbd> {
  const { name, socket, bitmap, signal } = options;
  const args = ["--read-only", `--export-name=${name}`, ...(bitmap === null ? [] : [`--bitmap=${bitmap}`])];
  const raw = found.format === "raw";
  try {
    return await QemuNbd.start({
      image: raw ? lockedRaw(found) : found.path,
      args: raw ? args : [...args, `--format=${found.format}`],
      socket,
      signal,
    });
  } catch (error) {
    throw error instanceof NbdError ? sourceError(found.path, error) : error;
  }
}

/**
 * QEMU reads a raw image without minding that a machine writes to it: its raw driver passes on what the other side allows. Only
 * this driver can be told not to allow it; it changes nothing about the content.
 */
function lockedRaw({ path, isDevice }: FoundImage): string {
  const image = { driver: isDevice ? "host_device" : "file", filename: path };
  return `json:${JSON.stringify({ driver: "raw", file: { driver: "blkdebug", "unshare-child-perms": ["write"], image } })}`;
}

function sourceError(path: string, error: NbdError): Error {
  const { code, message, hint } = error;
  if (code === "server-missing") return new SourceError("tool-missing", message, { cause: error, ...(hint === undefined ? {} : { hint }) });
  if (code !== "server-failed") return error;
  if (/Failed to get .*lock/.test(message)) {
    const advice = "back up the running machine through libvirt (--connect and --domain), or stop it";
    return new SourceError("running", `the image ${path} is in use by a running machine`, { cause: error, hint: advice });
  }
  const reason = message.replace(/^Failed to blk_new_open '.*?': /, "");
  return new SourceError("image-unusable", `the image ${path} cannot be served: ${reason}`, { cause: error });
}
