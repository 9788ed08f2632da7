import { formatBytes } from "../lib/bytes.ts";

const REDRAW_MS = 100;
const LINE_MS = 5000;
const BAR = 28;

export interface ProgressSample {
  /** in any unit, as far as `total` is in the same */
  readonly done: number;
  readonly total: number;
  /** bytes moved so far, for the rate; null where it is not bytes that are moved */
  readonly bytes: number | null;
}

/** Shows how far long work is: a bar with rate and remaining time on a terminal, a plain line every five seconds elsewhere. Writes to standard error. */
export class ProgressDisplay {
  readonly #what: string;
  readonly #started = performance.now();
  readonly #terminal: boolean;
  #last = 0;
  #drawn = false;

  constructor(what: string, stream: NodeJS.WriteStream = process.stderr) {
    this.#what = what;
    this.#terminal = stream.isTTY;
    this.#last = this.#terminal ? 0 : this.#started;
  }

  update(sample: ProgressSample): void {
    const now = performance.now();
    if (now - this.#last < (this.#terminal ? REDRAW_MS : LINE_MS)) return;
    this.#last = now;
    const text = describe(this.#what, sample, (now - this.#started) / 1000);
    process.stderr.write(this.#terminal ? `\r\u001B[K${bar(sample)} ${text}` : `${text}\n`);
    this.#drawn = this.#terminal;
  }

  /** Takes the bar away, so that what follows stands on a line of its own. */
  end(): void {
    if (this.#drawn) process.stderr.write("\r\u001B[K");
    this.#drawn = false;
  }
}

/** One line about the state of the work. @param seconds since it began */
export function describe(what: string, { done, total, bytes }: ProgressSample, seconds: number): string {
  const share = total === 0 ? 1 : Math.min(1, done / total);
  const left = share === 0 ? "?" : clock((seconds * (1 - share)) / share);
  if (bytes === null) return `${what}: ${(share * 100).toFixed(0)} %, ${done} of ${total}, ${left} left`;
  const rate = seconds === 0 ? 0 : bytes / seconds;
  return `${what}: ${(share * 100).toFixed(0)} %, ${formatBytes(bytes)} at ${formatBytes(Math.round(rate))}/s, ${left} left`;
}

function bar({ done, total }: ProgressSample): string {
  const filled = total === 0 ? BAR : Math.round(BAR * Math.min(1, done / total));
  return `[${"#".repeat(filled)}${".".repeat(BAR - filled)}]`;
}

function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3600);
  const [minutes, rest] = [Math.floor((whole % 3600) / 60), whole % 60];
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** A bar for each step. */
export class StepDisplay<S extends string> {
  readonly #titles: Readonly<Record<S, string>>;
  #step: S | null = null;
  #display: ProgressDisplay | null = null;

  constructor(titles: Readonly<Record<S, string>>) {
    this.#titles = titles;
  }

  /** @param progress `of` is null while that is not known */
  update({ step, done, of }: { readonly step: S; readonly done: number; readonly of: number | null }): void {
    if (step !== this.#step) {
      this.end();
      this.#step = step;
      this.#display = new ProgressDisplay(this.#titles[step]);
    }
    if (of !== null) this.#display?.update({ done, total: of, bytes: null });
  }

  end(): void {
    this.#display?.end();
    this.#display = null;
  }
}
