import type { Lock, ObjectLocks, ObjectStat, ObjectVersion, VersionPage } from "../../src/objectstore/index.ts";

const PAGE = 1000;

/** Where a list goes on from. */
interface Bookmark {
  readonly stats: AsyncIterator<ObjectStat>;
  readonly first: ObjectVersion;
}

/** Locks of objects that are made up: one version of each, whose lock was extended at some time of the days before. */
export class HugeLocks implements ObjectLocks {
  /** questions for a lock */
  asked = 0;
  /** locks that were extended */
  extended = 0;
  readonly #list: (prefix: string) => AsyncIterable<ObjectStat>;
  readonly #lockOf: (key: string) => Lock | null;
  readonly #bookmarks = new Map<string, Bookmark>();

  /** @param lockOf what the store has of an object before the run */
  constructor(list: (prefix: string) => AsyncIterable<ObjectStat>, lockOf: (key: string) => Lock | null) {
    this.#list = list;
    this.#lockOf = lockOf;
  }

  async configuration(): Promise<{ readonly byDefault: { readonly mode: "governance"; readonly days: number } }> {
    return await Promise.resolve({ byDefault: { mode: "governance", days: 1 } });
  }

  async versions(prefix: string, from: string | null): Promise<VersionPage> {
    const mark = from === null ? undefined : this.#bookmarks.get(from);
    if (from !== null) this.#bookmarks.delete(from);
    const stats = mark?.stats ?? this.#list(prefix)[Symbol.asyncIterator]();
    const versions = mark === undefined ? [] : [mark.first];
    for (;;) {
      const { done, value } = await stats.next();
      if (done === true) return { versions, next: null };
      const version = versionOf(value);
      if (versions.length < PAGE) {
        versions.push(version);
        continue;
      }
      this.#bookmarks.set(version.key, { stats, first: version });
      return { versions, next: version.key };
    }
  }

  async find(key: string): Promise<Lock | null> {
    this.asked += 1;
    return await Promise.resolve(this.#lockOf(key));
  }

  async extend(): Promise<void> {
    this.extended += 1;
    await Promise.resolve();
  }
}

function versionOf({ key, size, modified }: ObjectStat): ObjectVersion {
  return { key, version: "1", modified, size, isLatest: true, isMarker: false };
}
