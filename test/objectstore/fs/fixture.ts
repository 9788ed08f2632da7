import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FsObjectStore } from "../../../src/objectstore/fs/index.ts";

export interface FsFixture {
  /** The store's directory; not there before the first write. */
  readonly directory: string;
  readonly store: FsObjectStore;
  readonly other: FsObjectStore;
  dispose(): Promise<void>;
}

export async function openFs(): Promise<FsFixture> {
  const base = await mkdtemp(join(tmpdir(), "thinstream-store-"));
  const directory = join(base, "deep", "store");
  const [store, other] = [new FsObjectStore(directory), new FsObjectStore(directory)];
  const dispose = async (): Promise<void> => {
    await Promise.all([store.close(), other.close()]);
    await rm(base, { recursive: true, force: true });
  };
  return { directory, store, other, dispose };
}
