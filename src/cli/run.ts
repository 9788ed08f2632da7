import { readFileSync } from "node:fs";
import { join } from "node:path";

import { CommanderError } from "commander";

import { errorText, ThinstreamError } from "../lib/errors.ts";
import { createLogger } from "../lib/log.ts";
import { scrubText } from "../lib/scrub.ts";
import type { Context, Outcome } from "./context.ts";
import { ExitCode } from "./exit-codes.ts";
import { program } from "./program.ts";
import { UsageError } from "./usage-error.ts";

/** Runs one command line. @returns the exit code; everything that had to be said was written */
export async function runCommandLine(args: readonly string[]): Promise<ExitCode> {
  const interrupted = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    if (interrupted.signal.aborted) process.exit(ExitCode.failed);
    process.stderr.write(`\n${name}: stopping and cleaning up; once more ends at once\n`);
    interrupted.abort(new Interrupted(name));
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
  try {
    const outcome = await carryOut(args, interrupted.signal);
    if (outcome !== null) process.stdout.write(`${wantsJson(args) ? JSON.stringify(outcome.json) : outcome.text}\n`);
    return outcome?.exitCode ?? ExitCode.ok;
  } catch (thrown) {
    return report(thrown, args);
  } finally {
    process.off("SIGTERM", onSignal).off("SIGINT", onSignal);
  }
}

async function carryOut(args: readonly string[], signal: AbortSignal): Promise<Outcome | null> {
  const context: Context = { signal, log: createLogger({ level: "warn" }), version: version() };
  let outcome: Outcome | null = null;
  await program(context, (result) => (outcome = result)).parseAsync([...args], { from: "user" });
  return outcome;
}

function report(thrown: unknown, args: readonly string[]): ExitCode {
  if (thrown instanceof CommanderError) {
    if (thrown.exitCode === 0) return ExitCode.ok;
    // Called without a command: the help was shown.
    if (thrown.code === "commander.help") return ExitCode.usage;
    return report(new UsageError(oneLine(thrown.message), { cause: thrown, hint: "--help shows what there is" }), args);
  }
  const { code, message, hint } = described(thrown);
  process.stderr.write(`thinstream: ${message}${hint === undefined ? "" : `. ${hint}`}\n`);
  // A fault of ours: whoever mends it needs to know where.
  if (code === UNEXPECTED && thrown instanceof Error) process.stderr.write(`${scrubText(thrown.stack ?? "")}\n`);
  if (wantsJson(args)) process.stdout.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
  return thrown instanceof UsageError ? ExitCode.usage : ExitCode.failed;
}

function oneLine(message: string): string {
  return message.replace(/^error: /, "").replaceAll(/\s*\n\s*/g, " ");
}

const UNEXPECTED = "unexpected";

function described(thrown: unknown): { readonly code: string; readonly message: string; readonly hint: string | undefined } {
  const message = scrubText(errorText(thrown));
  return thrown instanceof ThinstreamError
    ? { code: thrown.code, message, hint: thrown.hint }
    : { code: UNEXPECTED, message, hint: undefined };
}

function wantsJson(args: readonly string[]): boolean {
  return args.includes("--json");
}

function version(): string {
  const manifest = JSON.parse(readFileSync(join(import.meta.dirname, "..", "..", "package.json"), "utf8")) as { readonly version: string };
  return manifest.version;
}

class Interrupted extends ThinstreamError<"interrupted"> {
  override readonly name = "Interrupted";

  constructor(signal: string) {
    super("interrupted", `Ended by ${signal}; nothing was left behind`);
  }
}
