import { type FileHandle, open } from "node:fs/promises";

interface Entry {
  readonly handle: Promise<FileHandle>;
  users: number;
  dropped: boolean;
  /** `performance.now()` when the handle was last known to be of the file that has the name */
  checked: number;
}

/** How long, in milliseconds, a handle is trusted before it is looked at whether another process has replaced or removed its file. */
const trust = 1000;

/** Open read handles by path, the least recently used closed first; a restore reads one pack many times. */
export class HandleCache {
  readonly #entries = new Map<string, Entry>();
  readonly #capacity: number;
  #closed = false;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Runs `work` with a read handle of `path`; the handle stays open at least until `work` ends. Rejects as `open` does. */
  async use<T>(path: string, work: (handle: FileHandle) => Promise<T>): Promise<T> {
    const entry = this.#enter(path);
    try {
      const handle = await entry.handle;
      if (performance.now() - entry.checked > trust) {
        if ((await handle.stat()).nlink === 0) {
          this.forget(path, entry);
          return await this.use(path, work);
        }
        entry.checked = performance.now();
      }
      return await work(handle);
    } finally {
      await this.#leave(entry);
    }
  }

  /** Later uses open the file anew. */
  forget(path: string, only?: Entry): void {
    const entry = this.#entries.get(path);
    if (entry === undefined || (only !== undefined && entry !== only)) return;
    this.#entries.delete(path);
    entry.dropped = true;
    if (entry.users === 0) void closeQuietly(entry);
  }

  /** Closes every handle, those in use when their use ends. */
  async close(): Promise<void> {
    this.#closed = true;
    const idle = [...this.#entries.values()].filter((entry) => entry.users === 0);
    for (const entry of this.#entries.values()) entry.dropped = true;
    this.#entries.clear();
    await Promise.all(idle.map(closeQuietly));
  }

  #enter(path: string): Entry {
    let entry = this.#entries.get(path);
    if (entry === undefined) {
      entry = { handle: open(path, "r"), users: 0, dropped: this.#closed, checked: performance.now() };
      const opened = entry;
      // A file that does not open must not be remembered: it may be there the next time.
      opened.handle.catch(() => this.forget(path, opened));
    } else {
      this.#entries.delete(path);
    }
    entry.users++;
    if (this.#closed) return entry;
    this.#entries.set(path, entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#capacity) break;
      this.forget(oldest);
    }
    return entry;
  }

  async #leave(entry: Entry): Promise<void> {
    entry.users--;
    if (entry.dropped && entry.users === 0) await closeQuietly(entry);
  }
}

/** A read handle has nothing to lose at close, so its errors say nothing. */
async function closeQuietly(entry: Entry): Promise<void> {
  await entry.handle.then((handle) => handle.close()).catch(() => undefined);
}
