import { randomBytes } from "node:crypto";
import { type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { StoreError } from "../errors.ts";
import { errno } from "./errors.ts";

/** Holds files that are being written. `~` is in no key, so neither list nor get can see them. */
const temporaryDirectory = "~tmp";

/** A temporary file older than this, in milliseconds, was left by a process that died. */
const abandonedAfter = 24 * 60 * 60 * 1000;

/** Bytes written between two looks at the signal. */
const writeSize = 8 * 1024 * 1024;

/**
 * Writes whole files so that a crash of process or machine leaves the old file, no file or the new file, and so that a file that was
 * reported written stays. One directory for all temporary files, rather than the target's own: what a crash leaves is found with one look.
 */
export class DurableWriter {
  readonly #root: string;
  /** Directories that exist and whose entry in their parent is durable. */
  readonly #durable = new Map<string, Promise<void>>();
  #swept: Promise<void> | null = null;

  constructor(root: string) {
    this.#root = root;
  }

  /** `create` fails with `EEXIST` where the file is; `replace` does not care. Rejects as `node:fs` does. */
  async write(path: string, body: Uint8Array, mode: "create" | "replace", signal?: AbortSignal): Promise<void> {
    const directory = join(this.#root, temporaryDirectory);
    await this.#ensure(directory);
    await (this.#swept ??= sweep(directory));
    const temporary = join(directory, randomBytes(12).toString("hex"));
    let renamed = false;
    try {
      await this.#again(directory, () => writeFile(temporary, body, signal));
      await this.#again(dirname(path), async () => {
        if (mode === "create") await linkNew(temporary, path);
        else await rename(temporary, path);
      });
      renamed = mode === "replace";
      await syncDirectory(dirname(path));
    } finally {
      if (!renamed) await unlink(temporary).catch(() => undefined);
    }
  }

  /** Runs `work` in `directory`; once more where someone has removed the directory since it was made. */
  async #again(directory: string, work: () => Promise<void>): Promise<void> {
    await this.#ensure(directory);
    try {
      await work();
    } catch (error) {
      if (errno(error) !== "ENOENT") throw error;
      this.#durable.clear();
      await this.#ensure(directory);
      await work();
    }
  }

  #ensure(directory: string): Promise<void> {
    const known = this.#durable.get(directory);
    if (known !== undefined) return known;
    const made = this.#make(directory);
    this.#durable.set(directory, made);
    made.catch(() => this.#durable.delete(directory));
    return made;
  }

  async #make(directory: string): Promise<void> {
    try {
      await mkdir(directory, { mode: 0o700 });
    } catch (error) {
      if (errno(error) === "ENOENT" && dirname(directory) !== directory) {
        await this.#ensure(dirname(directory));
        await mkdir(directory, { mode: 0o700 }).catch(ignore("EEXIST"));
      } else {
        ignore("EEXIST")(error);
      }
    }
    // Also where it was there already: who made it may not have come to this line yet.
    if (directory.length > this.#root.length) await syncDirectory(dirname(directory));
    else await syncDirectory(dirname(directory)).catch(ignore("EACCES"));
  }
}

async function writeFile(path: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  const handle = await open(path, "wx", 0o600);
  try {
    await writeAll(handle, body, signal);
    await handle.sync();
  } finally {
    await handle.close();
  }
  signal?.throwIfAborted();
}

async function writeAll(handle: FileHandle, body: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  for (let done = 0; done < body.length;) {
    signal?.throwIfAborted();
    const { bytesWritten } = await handle.write(body, done, Math.min(writeSize, body.length - done), done);
    done += bytesWritten;
  }
}

/** link(2) is the one file operation that creates a complete file and refuses to replace one. */
async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const code = errno(error);
    // Over NFS a repeated request may report EEXIST for the link that it made itself.
    if (code === "EEXIST" && (await stat(from)).nlink > 1) return;
    if (code === "EPERM" || code === "ENOTSUP" || code === "ENOSYS" || code === "EMLINK") {
      throw new StoreError("no-conditional-writes", `the file system of ${dirname(to)} has no hard links`, {
        cause: error,
        hint: "use a file system with hard links (ext4, XFS, btrfs, NFS), or an S3 repository",
      });
    }
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    // Some network and FUSE file systems have no fsync for directories; they keep their own promises.
    await handle.sync().catch(ignore("EINVAL", "ENOTSUP", "ENOSYS"));
  } finally {
    await handle.close();
  }
}

/** Removes what crashed writers left. Never fails: it is housekeeping beside someone's write. */
async function sweep(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  for (const name of names) {
    const path = join(directory, name);
    const status = await stat(path).catch(() => null);
    if (status !== null && Date.now() - status.mtimeMs > abandonedAfter) await unlink(path).catch(() => undefined);
  }
}

function ignore(...names: readonly string[]): (error: unknown) => void {
  return (error) => {
    if (!names.includes(errno(error))) throw error;
  };
}
