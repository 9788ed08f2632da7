/** At most `count` buffers of one size, made when first needed and used again: fresh memory costs more than the copy into it. */
export class BufferPool {
  readonly #size: number;
  #left: number;
  readonly #free: Buffer[] = [];
  readonly #waiting: { readonly resolve: (buffer: Buffer) => void; readonly reject: (reason: unknown) => void }[] = [];
  #failure: { readonly reason: unknown } | null = null;

  constructor(size: number, count: number) {
    this.#size = size;
    this.#left = count;
  }

  async take(): Promise<Buffer> {
    if (this.#failure !== null) throw this.#failure.reason;
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#left > 0) {
      this.#left--;
      return Buffer.allocUnsafeSlow(this.#size);
    }
    return await new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  give(buffer: Buffer): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(buffer);
    else next.resolve(buffer);
  }

  /** Rejects who waits and whoever comes. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }
}
