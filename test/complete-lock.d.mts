/** The part of an entry of package-lock.json that matters here. */
export interface LockEntry {
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly dev?: boolean;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly cpu?: readonly string[];
  readonly os?: readonly string[];
  readonly libc?: readonly string[];
}

/** The optional dependencies without an entry of their own. */
export function missing(packages: Readonly<Record<string, LockEntry>>): { path: string; version: string; dev?: boolean }[];
