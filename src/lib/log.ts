import { destination, pino, stdTimeFunctions } from "pino";
import type { DestinationStream, Logger as PinoLogger } from "pino";
import { InvalidValueError } from "./invalid-value.ts";
import type { LogFields, Logger } from "./logger.ts";
import { scrub, scrubText } from "./scrub.ts";

const levels = ["debug", "info", "warn", "error", "silent"] as const;

/** How much is said: that level and what is graver. */
export type LogLevel = (typeof levels)[number];

/** What `createLogger` may be told. */
export interface LogOptions {
  /** Used where the environment variable THINSTREAM_LOG names none; default `info`. */
  readonly level?: LogLevel;
  /** Default: standard error, written at once, so that nothing is lost when the process ends. */
  readonly to?: DestinationStream;
}

/**
 * A logger that writes one JSON object a line (`level`, `time`, fields, `msg`) with every secret hidden by `scrub`.
 * Throws `InvalidValueError` when THINSTREAM_LOG names no level.
 */
export function createLogger(options: LogOptions = {}): Logger {
  const level = levelFromEnvironment() ?? options.level ?? "info";
  const formatters = { level: (label: string): object => ({ level: label }) };
  const to = options.to ?? destination({ dest: 2, sync: true });
  // `err` is scrubbed already; pino's own serializer would only take it for a plain object.
  return wrap(
    pino({ level, base: null, formatters, timestamp: stdTimeFunctions.isoTime, serializers: { err: (err: unknown) => err } }, to),
  );
}

function levelFromEnvironment(): LogLevel | undefined {
  const text = process.env["THINSTREAM_LOG"];
  if (text === undefined || text === "") return undefined;
  const level = levels.find((name) => name === text.toLowerCase());
  if (level !== undefined) return level;
  throw new InvalidValueError(`THINSTREAM_LOG is "${text}", which is not a log level`, { hint: `use one of ${levels.join(", ")}` });
}

function wrap(target: PinoLogger): Logger {
  return {
    debug: (fields, message) => write(target, "debug", fields, message),
    info: (fields, message) => write(target, "info", fields, message),
    warn: (fields, message) => write(target, "warn", fields, message),
    error: (fields, message) => write(target, "error", fields, message),
    child: (fields) => wrap(target.child(scrub(fields) as LogFields)),
  };
}

function write(target: PinoLogger, level: Exclude<LogLevel, "silent">, fields: LogFields, message: string): void {
  if (target.isLevelEnabled(level)) target[level](scrub(fields), scrubText(message));
}
