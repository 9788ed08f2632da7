import type { AgentProgress, Phase } from "../../api/index.ts";

/** Where a run is, for those who ask and those who wait. */
export class Board {
  #progress: AgentProgress = { phase: "Starting", totalBytes: 0, doneBytes: 0, readBytes: 0, storedBytes: 0 };
  readonly #waiting = new Set<() => void>();

  get progress(): AgentProgress {
    return this.#progress;
  }

  enter(phase: Phase): void {
    if (this.#progress.phase === phase) return;
    this.#progress = { ...this.#progress, phase };
    for (const tell of this.#waiting) tell();
  }

  count(bytes: Omit<AgentProgress, "phase">): void {
    this.#progress = { ...bytes, phase: this.#progress.phase };
  }

  /** Resolves when the phase is another than `seen`, after `ms`, or when `signal` aborts. */
  async changed(seen: string, ms: number, signal: AbortSignal): Promise<void> {
    if (this.#progress.phase !== seen || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    const tell = (): void => resolve();
    this.#waiting.add(tell);
    signal.addEventListener("abort", tell, { once: true });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(tell);
      signal.removeEventListener("abort", tell);
    }
  }
}
