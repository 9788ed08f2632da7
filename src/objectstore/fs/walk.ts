import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { isSegment } from "../keys.ts";
import type { ObjectStat } from "../objectstore.ts";
import { errno } from "./errors.ts";

interface Walk {
  readonly root: string;
  readonly prefix: string;
  /** Only keys greater than this. */
  readonly after: string;
}

/** Files looked at together. */
const batchSize = 64;

/**
 * The files below `root` as objects in byte order of key. Holds the names of the directories it stands in and nothing else of the tree.
 * Names that are in no key, links and devices are passed over. Rejects as `node:fs` does.
 */
export async function* walk(root: string, prefix: string, after: string): AsyncGenerator<ObjectStat, void, undefined> {
  const directory = prefix.slice(0, prefix.lastIndexOf("/") + 1);
  yield* walkDirectory({ root, prefix, after }, directory);
}

/** `directory` is empty or ends with a slash. */
async function* walkDirectory(walking: Walk, directory: string): AsyncGenerator<ObjectStat, void, undefined> {
  let files: string[] = [];
  for (const entry of await entries(walking, directory)) {
    if (entry.endsWith("/")) {
      yield* await stats(walking.root, files);
      files = [];
      yield* walkDirectory(walking, entry);
    } else {
      files.push(entry);
      if (files.length < batchSize) continue;
      yield* await stats(walking.root, files);
      files = [];
    }
  }
  yield* await stats(walking.root, files);
}

/** Keys of the files and, with a slash at the end, of the directories that may hold wanted objects, in the order of the keys they stand for. */
async function entries(walking: Walk, directory: string): Promise<string[]> {
  let found: Dirent[];
  try {
    found = await readdir(join(walking.root, directory), { withFileTypes: true });
  } catch (error) {
    if (errno(error) === "ENOENT" || errno(error) === "ENOTDIR") return [];
    throw error;
  }
  return found
    .filter((entry) => isSegment(entry.name) && (entry.isFile() || entry.isDirectory()))
    .map((entry) => directory + entry.name + (entry.isDirectory() ? "/" : ""))
    .filter((key) => wanted(walking, key))
    .toSorted((a, b) => (a < b ? -1 : 1));
}

function wanted({ prefix, after }: Walk, key: string): boolean {
  if (!key.endsWith("/")) return key.startsWith(prefix) && key > after;
  return (key.startsWith(prefix) || prefix.startsWith(key)) && (key > after || after.startsWith(key));
}

async function stats(root: string, keys: readonly string[]): Promise<ObjectStat[]> {
  const found = await Promise.all(keys.map((key) => statOrNull(root, key)));
  return found.filter((object) => object !== null);
}

/** Null when the file went away since its directory was read. */
async function statOrNull(root: string, key: string): Promise<ObjectStat | null> {
  try {
    const { size, mtime } = await stat(join(root, key));
    return { key, size, modified: mtime };
  } catch (error) {
    if (errno(error) === "ENOENT") return null;
    throw error;
  }
}
