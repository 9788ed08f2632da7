import type { ObjectLocks, ObjectVersion } from "../../objectstore/index.ts";

/** An object with all its versions. */
export interface VersionedObject {
  readonly key: string;
  /** the first and the last that were put, in this order; one where there is one, none where only a marker is left */
  readonly versions: readonly ObjectVersion[];
  /** whether a marker hides it from who asks for the key */
  readonly hidden: boolean;
}

/** Objects whose key begins with `prefix`, in order, hidden ones too. */
export async function* listVersions(
  locks: ObjectLocks,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<VersionedObject, void, undefined> {
  let gathering: Gathering | null = null;
  let from: string | null = null;
  do {
    const page = await locks.versions(prefix, from, { signal });
    for (const version of page.versions) {
      if (gathering !== null && gathering.key !== version.key) {
        yield gathering.object;
        gathering = null;
      }
      gathering ??= new Gathering(version.key);
      gathering.add(version);
    }
    from = page.next;
  } while (from !== null);
  if (gathering !== null) yield gathering.object;
}

/** The versions of one key, which may come in several pages. */
class Gathering {
  readonly key: string;
  #newest: ObjectVersion | null = null;
  #oldest: ObjectVersion | null = null;
  #hidden = false;

  constructor(key: string) {
    this.key = key;
  }

  add(version: ObjectVersion): void {
    if (version.isMarker) {
      this.#hidden ||= version.isLatest;
      return;
    }
    this.#newest ??= version;
    this.#oldest = version;
  }

  get object(): VersionedObject {
    const versions = this.#newest === this.#oldest ? [this.#oldest] : [this.#oldest, this.#newest];
    return { key: this.key, versions: versions.filter((version) => version !== null), hidden: this.#hidden };
  }
}
