import type { CallOptions } from "./objectstore.ts";

/** Governance may be lifted by who has a right of its own, compliance by nobody. */
export type LockMode = "governance" | "compliance";

/** Nobody takes that version of an object away before `until`. */
export interface Lock {
  readonly mode: LockMode;
  readonly until: Date;
}

/** What a bucket gives to every object that is put into it. */
export interface DefaultLock {
  readonly mode: LockMode;
  readonly days: number;
}

/** One version of an object, or a marker that hides those before it. */
export interface ObjectVersion {
  readonly key: string;
  readonly version: string;
  readonly modified: Date;
  readonly size: number;
  /** whether it is what a reader of the key meets */
  readonly isLatest: boolean;
  readonly isMarker: boolean;
}

export interface VersionPage {
  /** by key; of one key the newest first, its markers after its data */
  readonly versions: readonly ObjectVersion[];
  /** what `versions` goes on from; null after the last page. A key may go on in the next one. */
  readonly next: string | null;
}

/** Retention of single versions of objects, as S3's Object Lock has it. Errors are those of the store. */
export interface ObjectLocks {
  /** Whether the bucket has Object Lock, and what it gives to new objects; null where there is none. */
  configuration(options?: CallOptions): Promise<{ readonly byDefault: DefaultLock | null } | null>;

  /** A page of all versions of the objects whose key begins with `prefix`. @param from null: the first */
  versions(prefix: string, from: string | null, options?: CallOptions): Promise<VersionPage>;

  /** The lock of one version; null where it has none. Rejects `not-found`. */
  find(key: string, version: string, options?: CallOptions): Promise<Lock | null>;

  /** Locks a version for longer. Rejects `access-denied`, also where its lock is longer, or of another mode, than asked for. */
  extend(key: string, version: string, lock: Lock, options?: CallOptions): Promise<void>;
}
