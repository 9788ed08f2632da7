import { ThinstreamError } from "./errors.ts";

/** Something took longer than it was given. */
export class TimeoutError extends ThinstreamError<"timeout"> {
  override readonly name = "TimeoutError";

  constructor(what: string, ms: number) {
    super("timeout", `${what} took longer than ${ms < 1000 ? `${ms} ms` : `${Number((ms / 1000).toFixed(1))} s`}`);
  }
}

/** What `withTimeout` needs to know. */
export interface TimeoutOptions {
  /** milliseconds */
  readonly ms: number;
  /** The work, as the subject of the message "… took longer than 30 s". */
  readonly what: string;
  /** Aborts the work too, with its own reason. */
  readonly signal?: AbortSignal | undefined;
}

/** One signal that aborts with the first of those given; those that are undefined do not count. */
export function anySignal(...signals: readonly (AbortSignal | undefined)[]): AbortSignal {
  return AbortSignal.any(signals.filter((signal) => signal !== undefined));
}

/**
 * Runs `work` with a signal that aborts after `ms`, or when `options.signal` does, and settles no later than that, whether or not
 * `work` heeds the signal. Rejects with `TimeoutError` or `options.signal.reason`. The timer is gone when it settles.
 */
export async function withTimeout<T>(options: TimeoutOptions, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(new TimeoutError(options.what, options.ms)), options.ms);
  const signal = anySignal(timeout.signal, options.signal);
  try {
    signal.throwIfAborted();
    return await abortable(work(signal), signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Settles like `promise`, or rejects with `signal.reason` as soon as that aborts; `promise` is then left to itself and its failure is swallowed. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason as Error);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
