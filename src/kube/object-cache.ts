import { type KubeObject, keyOf } from "./object.ts";

/** The values an object is to be found by; none where it is not to be found. */
export type IndexFunction<T extends KubeObject> = (object: T) => readonly string[];

/** What a cache lets others do. */
export interface Lister<T extends KubeObject> {
  readonly size: number;
  /** By `namespace/name`, or `name` for kinds without a namespace. */
  get(key: string): T | undefined;
  list(): IterableIterator<T>;
  keys(): IterableIterator<string>;
  /** The objects with this value in an index; throws where there is no such index. */
  byIndex(index: string, value: string): T[];
  /** The values an index has, with at least one object each. */
  indexValues(index: string): IterableIterator<string>;
}

/** Objects by key, and by the values of any number of indices. */
export class ObjectCache<T extends KubeObject> implements Lister<T> {
  readonly #objects = new Map<string, T>();
  readonly #indices: ReadonlyMap<string, { readonly valuesOf: IndexFunction<T>; readonly keys: Map<string, Set<string>> }>;

  constructor(indices: Readonly<Record<string, IndexFunction<T>>> = {}) {
    this.#indices = new Map(Object.entries(indices).map(([name, valuesOf]) => [name, { valuesOf, keys: new Map() }]));
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): IterableIterator<T> {
    return this.#objects.values();
  }

  keys(): IterableIterator<string> {
    return this.#objects.keys();
  }

  byIndex(index: string, value: string): T[] {
    const keys = this.#index(index).keys.get(value) ?? [];
    return [...keys].map((key) => this.#objects.get(key)).filter((object) => object !== undefined);
  }

  indexValues(index: string): IterableIterator<string> {
    return this.#index(index).keys.keys();
  }

  /** Keeps an object in the place of the one before, which it gives. */
  set(object: T): T | undefined {
    const key = keyOf(object);
    const before = this.#objects.get(key);
    this.#objects.set(key, object);
    for (const { valuesOf, keys } of this.#indices.values()) {
      if (before !== undefined) remove(keys, valuesOf(before), key);
      for (const value of valuesOf(object)) add(keys, value, key);
    }
    return before;
  }

  delete(key: string): T | undefined {
    const before = this.#objects.get(key);
    if (before === undefined) return undefined;
    this.#objects.delete(key);
    for (const { valuesOf, keys } of this.#indices.values()) remove(keys, valuesOf(before), key);
    return before;
  }

  #index(name: string): { readonly keys: Map<string, Set<string>> } {
    const index = this.#indices.get(name);
    if (index === undefined) throw new RangeError(`there is no index "${name}"`);
    return index;
  }
}

function add(keys: Map<string, Set<string>>, value: string, key: string): void {
  const found = keys.get(value);
  if (found === undefined) keys.set(value, new Set([key]));
  else found.add(key);
}

function remove(keys: Map<string, Set<string>>, values: readonly string[], key: string): void {
  for (const value of values) {
    const found = keys.get(value);
    found?.delete(key);
    if (found?.size === 0) keys.delete(value);
  }
}
