/**
 * A first-in first-out queue between one producer and one consumer that holds at most `capacity` items.
 * Either side may `fail` it: the other then rejects with that reason.
 */
export class BoundedQueue<T> {
  readonly #capacity: number;
  readonly #items: T[] = [];
  #ended = false;
  #failure: { readonly reason: unknown } | null = null;
  #wakeProducer: (() => void) | null = null;
  #wakeConsumer: (() => void) | null = null;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  async push(item: T): Promise<void> {
    while (this.#items.length >= this.#capacity && this.#failure === null) await new Promise<void>((wake) => (this.#wakeProducer = wake));
    if (this.#failure !== null) throw this.#failure.reason;
    this.#items.push(item);
    this.#wakeConsumer?.();
  }

  end(): void {
    this.#ended = true;
    this.#wakeConsumer?.();
  }

  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#wakeConsumer?.();
    this.#wakeProducer?.();
  }

  /** Takes out what nobody will consume any more. */
  drain(): T[] {
    return this.#items.splice(0);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure.reason;
      const item = this.#items.shift();
      if (item !== undefined) {
        this.#wakeProducer?.();
        yield item;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((wake) => (this.#wakeConsumer = wake));
      }
    }
  }
}
