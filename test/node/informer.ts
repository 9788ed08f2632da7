import { setTimeout as sleep } from "node:timers/promises";
import { type Api, ApiError, type KubeObject } from "./api.ts";

interface Event<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T;
}

/** Told of every object as it is now; `gone` when it no longer exists. */
export type Heard<T> = (object: T, gone: boolean) => void;

/** The objects of one path as they are, kept up to date through restarts of the API server and expired watches. */
export class Informer<T extends KubeObject> {
  readonly items: Map<string, T> = new Map();
  readonly #api: Api;
  readonly #path: string;
  readonly #heard: Heard<T>;
  readonly #ending = new AbortController();
  readonly #loop: Promise<void>;

  /** `path` may have a query, e.g. a field selector. */
  constructor(api: Api, path: string, heard: Heard<T>) {
    this.#api = api;
    this.#path = path;
    this.#heard = heard;
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        await this.#follow(await this.#list());
      } catch (cause) {
        if (!(cause instanceof ApiError) && !signal.aborted) process.emitWarning(`watch of ${this.#path}: ${String(cause)}`);
      }
      await sleep(200, undefined, { signal }).catch(() => undefined);
    }
  }

  async #list(): Promise<string> {
    const { signal } = this.#ending;
    const list = await this.#api.send<{ metadata: { resourceVersion: string }; items: T[] }>({ method: "GET", path: this.#path, signal });
    const present = new Set(list.items.map(({ metadata }) => metadata.uid));
    for (const [uid, old] of this.items) if (!present.has(uid)) this.#tell(old, true);
    for (const item of list.items)
      if (this.items.get(item.metadata.uid)?.metadata.resourceVersion !== item.metadata.resourceVersion) this.#tell(item, false);
    return list.metadata.resourceVersion;
  }

  async #follow(from: string): Promise<void> {
    let version = from;
    const query = `${this.#path.includes("?") ? "&" : "?"}watch=1&allowWatchBookmarks=true&timeoutSeconds=290`;
    while (!this.#ending.signal.aborted) {
      for await (const line of this.#api.lines(`${this.#path}${query}&resourceVersion=${version}`, this.#ending.signal)) {
        const { type, object } = line as Event<T>;
        if (type === "ERROR") return; // expired: list anew
        version = object.metadata.resourceVersion;
        if (type !== "BOOKMARK") this.#tell(object, type === "DELETED");
      }
    }
  }

  #tell(object: T, gone: boolean): void {
    if (gone) this.items.delete(object.metadata.uid);
    else this.items.set(object.metadata.uid, object);
    this.#heard(object, gone);
  }
}
