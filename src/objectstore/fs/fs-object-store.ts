import { type FileHandle, open, stat, unlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import {
  alreadyExists,
  checkKey,
  checkOffset,
  checkPrefix,
  defaultMaxBytes,
  notFound,
  outOfRange,
  storeClosed,
  tooLarge,
} from "../keys.ts";
import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore } from "../objectstore.ts";
import { DurableWriter } from "./durable-writer.ts";
import { fsError } from "./errors.ts";
import { HandleCache } from "./handle-cache.ts";
import { walk } from "./walk.ts";

/** Read handles kept open. */
const openHandles = 32;

/**
 * Objects as files below one directory, the key being the path. The directory is made by the first write. A write is reported done when file
 * and directory entry are on stable storage. What another process replaces or removes is seen by `read` within a second, by all else at once.
 */
export class FsObjectStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;
  readonly #writer: DurableWriter;
  readonly #handles = new HandleCache(openHandles);
  #closed = false;

  /** `directory`: path of the store; nothing is touched yet. */
  constructor(directory: string) {
    this.#root = resolve(directory);
    this.url = pathToFileURL(this.#root).href;
    this.#writer = new DurableWriter(this.#root);
  }

  get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    return this.#run(`read ${key}`, key, options, async (path) => {
      const handle = await open(path, "r");
      try {
        return await readWhole(handle, key, options);
      } finally {
        await handle.close();
      }
    });
  }

  read(key: string, offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    return this.#run(`read ${key}`, key, options, (path) => {
      checkOffset(key, offset);
      return this.#handles.use(path, async (handle) => {
        if (into.length === 0) await checkWithin(handle, key, offset);
        await fill(handle, key, offset, into);
        options.signal?.throwIfAborted();
      });
    });
  }

  put(key: string, body: Uint8Array, options: CallOptions = {}): Promise<void> {
    return this.#run(`write ${key}`, key, options, async (path) => {
      await this.#writer.write(path, body, "replace", options.signal);
      this.#handles.forget(path);
    });
  }

  putIfAbsent(key: string, body: Uint8Array, options: CallOptions = {}): Promise<void> {
    return this.#run(`write ${key}`, key, options, async (path) => {
      // Spares the writing where the answer is known; link(2) decides where it is not.
      if (await exists(path)) throw alreadyExists(key);
      await this.#writer.write(path, body, "create", options.signal);
    });
  }

  stat(key: string, options: CallOptions = {}): Promise<ObjectStat> {
    return this.#run(`look at ${key}`, key, options, async (path) => {
      const status = await stat(path);
      if (!status.isFile()) throw notFound(key);
      return { key, size: status.size, modified: status.mtime };
    });
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectStat, void, undefined> {
    checkPrefix(prefix);
    this.#ready(options);
    try {
      for await (const object of walk(this.#root, prefix, options.after ?? "")) {
        this.#ready(options);
        yield object;
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      throw fsError(error, `list ${prefix}`, this.#root);
    }
    this.#ready(options);
  }

  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#run(`delete ${key}`, key, options, async (path) => {
      await unlink(path).catch((error: unknown) => {
        if (fsError(error, "delete", this.#root).code !== "not-found") throw error;
      });
      this.#handles.forget(path);
    });
  }

  async now(options: CallOptions = {}): Promise<Date> {
    this.#ready(options);
    return new Date();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#handles.close();
  }

  async #run<T>(doing: string, key: string, options: CallOptions, work: (path: string) => Promise<T>): Promise<T> {
    checkKey(key);
    this.#ready(options);
    try {
      return await work(join(this.#root, key));
    } catch (error) {
      if (options.signal?.aborted === true && error === options.signal.reason) throw error;
      throw fsError(error, doing, this.#root);
    }
  }

  #ready(options: CallOptions): void {
    options.signal?.throwIfAborted();
    if (this.#closed) throw storeClosed();
  }
}

async function readWhole(handle: FileHandle, key: string, options: GetOptions): Promise<Uint8Array> {
  const status = await handle.stat();
  if (!status.isFile()) throw notFound(key);
  const maxBytes = options.maxBytes ?? defaultMaxBytes;
  if (status.size > maxBytes) throw tooLarge(key, status.size, maxBytes);
  const bytes = new Uint8Array(status.size);
  await fill(handle, key, 0, bytes);
  options.signal?.throwIfAborted();
  return bytes;
}

async function fill(handle: FileHandle, key: string, offset: number, into: Uint8Array): Promise<void> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await handle.read(into, done, into.length - done, offset + done);
    if (bytesRead === 0) throw outOfRange(key, offset, into.length);
    done += bytesRead;
  }
}

async function checkWithin(handle: FileHandle, key: string, offset: number): Promise<void> {
  const status = await handle.stat();
  if (!status.isFile()) throw notFound(key);
  if (offset > status.size) throw outOfRange(key, offset, 0);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
