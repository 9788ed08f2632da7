import { realpath, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { errorText } from "../../lib/errors.ts";
import { SourceError } from "../errors.ts";
import { imageChain, type ImageInfo } from "../qemu-img.ts";
import type { ImageSpec } from "./options.ts";

/** An image as it was found, before any of it is read. */
export interface FoundImage {
  /** absolute */
  readonly path: string;
  readonly format: string;
  readonly isDevice: boolean;
  readonly info: ImageInfo;
  /** What lies below it: its backing file, that one's, and so on. */
  readonly backing: readonly ImageInfo[];
}

/** Looks at an image without opening it for good. Rejects `image-unusable` with the reason, `tool-missing`. */
export async function inspectImage(spec: ImageSpec, signal: AbortSignal): Promise<FoundImage> {
  const path = resolve(spec.path);
  const isDevice = await isBlockDevice(path);
  // Whoever fills a device as its raw disk chooses its first bytes: they say nothing about how it is to be read.
  const format = spec.format ?? (isDevice ? "raw" : null);
  const [info, ...backing] = await imageChain(path, format, signal);
  requireUsable(path, info);
  if (format === null && info.format !== "qcow2" && info.format !== "raw") {
    throw unusable(path, `is of format ${info.format}`, "only qcow2 and raw images are read; qemu-img convert makes one of another");
  }
  return { path, format: info.format, isDevice, info, backing };
}

function requireUsable(path: string, info: ImageInfo): void {
  if (info.encrypted === true || info.format === "luks") {
    throw unusable(path, "is encrypted", "back up the running machine through libvirt (--connect and --domain), which has the key");
  }
  if (info["format-specific"]?.data?.corrupt === true) {
    throw unusable(path, "is marked as corrupt", "qemu-img check says what is wrong and may repair it");
  }
  if (info["virtual-size"] === 0) throw unusable(path, "is empty");
}

/** Every regular file that an image's content lies in, as far as QEMU names them. */
export function filesOf({ info, backing }: FoundImage): string[] {
  return [info, ...backing].flatMap((one) => {
    const file = one.filename;
    const data = one["format-specific"]?.data?.["data-file"];
    return file.startsWith("/") ? [file, ...(data === undefined ? [] : [resolve(dirname(file), data)])] : [];
  });
}

/** Rejects `image-unusable` where an image, or what lies below it, is outside of these directories when every link has been followed. */
export async function requireWithin(found: FoundImage, dirs: readonly string[]): Promise<void> {
  const { path, info, backing } = found;
  const odd = [info, ...backing].map((one) => one.filename).find((name) => !name.startsWith("/"));
  if (odd !== undefined) throw unusable(path, `stands on ${odd}, which is no file of the machine's`);
  const allowed = await Promise.all(dirs.map(async (dir) => await realpath(dir)));
  for (const file of filesOf(found)) {
    const real = await realpath(file).catch(() => file);
    if (!allowed.some((dir) => real === dir || real.startsWith(`${dir}/`)))
      throw unusable(
        path,
        `leads to ${file}, which is outside of the machine's volumes`,
        "replace the link or backing file by the data itself",
      );
  }
}

async function isBlockDevice(path: string): Promise<boolean> {
  let found;
  try {
    found = await stat(path);
  } catch (cause) {
    const missing = cause instanceof Error && "code" in cause && (cause.code === "ENOENT" || cause.code === "ENOTDIR");
    const message = missing ? `the image ${path} does not exist` : `the image ${path} cannot be read: ${errorText(cause)}`;
    throw new SourceError("image-unusable", message, { cause });
  }
  if (found.isDirectory()) throw new SourceError("image-unusable", `${path} is a directory, not an image`);
  if (!found.isFile() && !found.isBlockDevice()) throw new SourceError("image-unusable", `${path} is neither a file nor a block device`);
  return found.isBlockDevice();
}

function unusable(path: string, what: string, hint?: string): SourceError {
  return new SourceError("image-unusable", `the image ${path} ${what}`, hint === undefined ? {} : { hint });
}
