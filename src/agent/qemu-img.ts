import { execFile } from "node:child_process";
import { childEnvironment } from "../lib/child-environment.ts";
import { errorText } from "../lib/errors.ts";
import { SourceError } from "./errors.ts";

/** What we use of `qemu-img info --output=json`; the whole object is kept with the point. */
export interface ImageInfo {
  /** bytes */
  readonly "virtual-size": number;
  readonly format: string;
  readonly filename: string;
  readonly encrypted?: boolean;
  /** As the image names it. */
  readonly "backing-filename"?: string;
  readonly "format-specific"?: {
    readonly data?: {
      /** `0.10` for qcow2 version 2 */
      readonly compat?: string;
      readonly bitmaps?: readonly { readonly name: string; readonly flags: readonly string[]; readonly granularity: number }[];
      readonly "data-file"?: string;
      readonly corrupt?: boolean;
    };
  };
}

const MAX_OUTPUT = 16 * 2 ** 20;

/**
 * Asks qemu-img about an image, also one that a machine has open. `format` null lets qemu-img find out, which is not for images
 * whose first bytes a guest writes. Rejects `image-unusable`, `tool-missing`.
 */
export async function imageInfo(path: string, format: string | null, signal: AbortSignal): Promise<ImageInfo> {
  const args = ["info", "-U", "--output=json", ...(format === null ? [] : ["-f", format]), "--", path];
  const text = await runQemuImg(args, path, signal);
  return JSON.parse(text) as ImageInfo;
}

/** As `imageInfo`, of an image and then of what lies below it: its backing file, that one's, and so on. */
export async function imageChain(path: string, format: string | null, signal: AbortSignal): Promise<[ImageInfo, ...ImageInfo[]]> {
  const args = ["info", "-U", "--backing-chain", "--output=json", ...(format === null ? [] : ["-f", format]), "--", path];
  return JSON.parse(await runQemuImg(args, path, signal)) as [ImageInfo, ...ImageInfo[]];
}

function runQemuImg(args: readonly string[], path: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile("qemu-img", args, { signal, maxBuffer: MAX_OUTPUT, encoding: "utf8", env: childEnvironment() }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      if (signal.aborted) return reject(signal.reason as Error);
      if (error.code === "ENOENT") {
        return reject(new SourceError("tool-missing", "qemu-img is not on this machine", { cause: error, hint: "install qemu-utils" }));
      }
      const said = stderr.trim().split("\n").at(-1) || errorText(error);
      const reason = said.replace(/^qemu-img: (?:Could not open '.*?': )?/, "");
      reject(new SourceError("image-unusable", `the image ${path} cannot be read: ${reason}`, { cause: error }));
    });
  });
}

/** Whether the image can hold a persistent bitmap: qcow2 of version 3. */
export function holdsBitmaps(info: ImageInfo): boolean {
  return info.format === "qcow2" && info["format-specific"]?.data?.compat !== "0.10";
}
