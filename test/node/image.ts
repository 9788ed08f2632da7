import { join } from "node:path";
import { checkout } from "../lab/index.ts";

/** What stands for a container image: directories that make up its root, and what it runs. */
export interface Image {
  /** Layers, topmost first. */
  readonly layers: readonly string[];
  readonly entrypoint: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Directories and files of this machine that it holds besides: where in the container, and where here. */
  readonly holds?: readonly { readonly target: string; readonly source: string }[];
}

/** Gives the image of a reference; undefined when no registry has it. */
export type Registry = (reference: string) => Image | undefined;

export const IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const APP = "/opt/thinstream";

/** This machine's own programs, nothing to run by itself. */
export const plainImage: Image = { layers: ["/"], entrypoint: [] };

/** The project's image: this checkout on this machine's programs, as `thinstream` and `node`. */
export const projectImage: Image = {
  ...plainImage,
  entrypoint: ["thinstream"],
  holds: [
    { target: APP, source: checkout() },
    { target: "/usr/local/bin/node", source: process.execPath },
    { target: "/usr/local/bin/thinstream", source: join(import.meta.dirname, "thinstream.sh") },
  ],
};

/** `missing/...` is nowhere; what has `thinstream` in its name is the project's; all others are this machine's programs. */
export const defaultRegistry: Registry = (reference) => {
  if (reference.startsWith("missing/")) return undefined;
  return /(?:^|\/)thinstream(?:[:@]|$)/.test(reference) ? projectImage : plainImage;
};
