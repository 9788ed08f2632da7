import { FaultyObjectStore, type ObjectStat, type ObjectStore } from "../../../src/objectstore/index.ts";

/** A store whose objects are as many hours older than they are. */
export function aged(store: ObjectStore, hours: number): ObjectStore {
  const later = new FaultyObjectStore(store, []);
  const age = ({ modified, ...stat }: ObjectStat): ObjectStat => ({ ...stat, modified: new Date(modified.getTime() - hours * 3_600_000) });
  later.list = async function* (...args) {
    for await (const stat of store.list(...args)) yield age(stat);
  };
  return later;
}

/** A store whose clock is ahead by so many hours. */
export function inHours(store: ObjectStore, hours: number): ObjectStore {
  const now = store.now.bind(store);
  store.now = async (options) => new Date((await now(options)).getTime() + hours * 3_600_000);
  return store;
}
