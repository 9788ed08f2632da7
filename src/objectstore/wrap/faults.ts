import { systemClock } from "../../lib/clock.ts";
import { StoreError, type StoreErrorCode } from "../errors.ts";
import type { ObjectLocks } from "../locks.ts";
import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore, PutOptions, StatOptions } from "../objectstore.ts";
import type { StoreOperation } from "./counting.ts";
import { WrappedLocks } from "./locks.ts";

/** What goes wrong. */
export type Fault =
  /** The store is not asked. */
  | { readonly kind: "error-before"; readonly code: StoreErrorCode }
  /** The store does what was asked and the answer is lost; a listing breaks after its first object. */
  | { readonly kind: "error-after"; readonly code: StoreErrorCode }
  | { readonly kind: "delay"; readonly milliseconds: number }
  /** Silently only the first part, 0 to 1, of the body is stored or given; the rest of a `read` is zeros; a listing ends after its first object. */
  | { readonly kind: "truncate"; readonly keep: number };

/** A call that fits every condition given has the fault. */
export interface FaultRule {
  readonly operations?: readonly StoreOperation[];
  readonly key?: RegExp;
  /** Which of the calls that fit operation and key, counted from 1 for this rule. */
  readonly ordinals?: readonly number[];
  /** 0 to 1; the plan's seed decides. */
  readonly probability?: number;
  readonly fault: Fault;
}

export interface InjectedFault {
  readonly operation: StoreOperation;
  readonly key: string;
  readonly fault: Fault;
}

/**
 * Makes a sound store fail as planned, the same way for the same seed and order of calls. Of several rules that fit a call, delays add up and
 * the first other fault counts.
 */
export class FaultyObjectStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #rules: readonly FaultRule[];
  readonly #seen: number[];
  readonly #random: () => number;
  readonly #injected: InjectedFault[] = [];

  constructor(inner: ObjectStore, rules: readonly FaultRule[], seed = 1) {
    this.#inner = inner;
    this.#rules = rules;
    this.#seen = rules.map(() => 0);
    this.#random = seededRandom(seed);
  }

  get url(): string {
    return this.#inner.url;
  }

  get locks(): ObjectLocks | undefined {
    const { locks } = this.#inner;
    return locks && new WrappedLocks(locks, (doing, options, work) => this.#around("lock", doing, options, () => work(options.signal)));
  }

  /** What was done so far, in order. */
  get injected(): readonly InjectedFault[] {
    return this.#injected;
  }

  async get(key: string, options?: GetOptions): Promise<Uint8Array> {
    return this.#around("get", key, options, async (kept) => {
      const bytes = await this.#inner.get(key, options);
      return bytes.subarray(0, kept(bytes.length));
    });
  }

  async read(key: string, offset: number, into: Uint8Array, options?: CallOptions): Promise<void> {
    await this.#around("read", key, options, async (kept) => {
      await this.#inner.read(key, offset, into, options);
      into.fill(0, kept(into.length));
    });
  }

  async put(key: string, body: Uint8Array, options?: PutOptions): Promise<void> {
    await this.#around("put", key, options, (kept) => this.#inner.put(key, body.subarray(0, kept(body.length)), options));
  }

  async putIfAbsent(key: string, body: Uint8Array, options?: PutOptions): Promise<void> {
    await this.#around("putIfAbsent", key, options, (kept) => this.#inner.putIfAbsent(key, body.subarray(0, kept(body.length)), options));
  }

  async stat(key: string, options?: StatOptions): Promise<ObjectStat> {
    return this.#around("stat", key, options, () => this.#inner.stat(key, options));
  }

  async *list(prefix: string, options?: ListOptions): AsyncGenerator<ObjectStat, void, undefined> {
    const fault = await this.#meet("list", prefix, options);
    if (fault?.kind === "error-before") throw planned(fault.code, "list", prefix);
    for await (const object of this.#inner.list(prefix, options)) {
      yield object;
      if (fault?.kind === "error-after") throw planned(fault.code, "list", prefix);
      if (fault?.kind === "truncate") return;
    }
  }

  async delete(key: string, options?: CallOptions): Promise<void> {
    await this.#around("delete", key, options, () => this.#inner.delete(key, options));
  }

  async now(options?: CallOptions): Promise<Date> {
    return this.#around("now", "", options, () => this.#inner.now(options));
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #around<T>(
    operation: StoreOperation,
    key: string,
    options: CallOptions | undefined,
    call: (kept: (length: number) => number) => Promise<T>,
  ): Promise<T> {
    const fault = await this.#meet(operation, key, options);
    if (fault?.kind === "error-before") throw planned(fault.code, operation, key);
    const share = fault?.kind === "truncate" ? fault.keep : 1;
    const result = await call((length) => Math.floor(length * share));
    if (fault?.kind === "error-after") throw planned(fault.code, operation, key);
    return result;
  }

  /** Waits out the delays and returns the other fault, if there is one. */
  async #meet(operation: StoreOperation, key: string, options: CallOptions | undefined): Promise<Fault | null> {
    const faults = this.#rules.filter((rule, index) => this.#fits(rule, index, operation, key)).map((rule) => rule.fault);
    const delays = faults.filter((fault) => fault.kind === "delay");
    const other = faults.find((fault) => fault.kind !== "delay") ?? null;
    for (const fault of other === null ? delays : [...delays, other]) this.#injected.push({ operation, key, fault });
    const milliseconds = delays.reduce((sum, fault) => sum + fault.milliseconds, 0);
    if (milliseconds > 0) await systemClock.sleep(milliseconds, options?.signal);
    return other;
  }

  #fits(rule: FaultRule, index: number, operation: StoreOperation, key: string): boolean {
    if (rule.operations !== undefined && !rule.operations.includes(operation)) return false;
    if (rule.key !== undefined && key.search(rule.key) < 0) return false;
    const ordinal = (this.#seen[index] ?? 0) + 1;
    this.#seen[index] = ordinal;
    if (rule.ordinals !== undefined && !rule.ordinals.includes(ordinal)) return false;
    return rule.probability === undefined || this.#random() < rule.probability;
  }
}

function planned(code: StoreErrorCode, operation: StoreOperation, key: string): StoreError {
  return new StoreError(code, `planned fault at ${operation} ${key}`);
}

/** Numbers from 0 to below 1 that a 32-bit seed determines (mulberry32). */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
