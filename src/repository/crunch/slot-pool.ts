import { Slot } from "./slot.ts";

/** A fixed number of slots that are lent and given back; who finds none waits in line. */
export class SlotPool {
  readonly slots: readonly Slot[];
  readonly #free: number[];
  readonly #waiting: { readonly resolve: (index: number) => void; readonly reject: (reason: unknown) => void }[] = [];
  #failure: { readonly reason: unknown } | null = null;

  constructor(count: number) {
    this.slots = Array.from({ length: count }, () => new Slot());
    this.#free = this.slots.map((_, index) => index);
  }

  async take(): Promise<number> {
    if (this.#failure !== null) throw this.#failure.reason;
    const index = this.#free.pop();
    if (index !== undefined) return index;
    return await new Promise<number>((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  give(index: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(index);
    else next.resolve(index);
  }

  /** Rejects who waits and whoever comes: after a failure nobody can count on slots coming back. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }

  slot(index: number): Slot {
    return this.slots[index] as Slot;
  }
}
