import type { AgentProgress, Phase } from "../../api/index.ts";
import { systemClock } from "../../lib/clock.ts";
import { errorText } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { type AgentAddress, AgentChannel, ChannelError } from "./agent-channel.ts";

/** Who freezes and thaws a guest that an agent is about to back up. */
export interface GuestFreezer {
  /** Resolves with the moment at which the guest thaws by itself. */
  freeze(signal: AbortSignal): Promise<Date>;
  thaw(signal: AbortSignal): Promise<void>;
}

export interface FollowOptions {
  readonly address: AgentAddress;
  /** Null where no phase asks for one. */
  readonly freezer: GuestFreezer | null;
  readonly onProgress: (progress: AgentProgress) => void;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** milliseconds until an agent that did not answer is asked again */
const RETRY_MS = 2_000;
/** An agent that ended does not answer any more: its pod tells the rest. */
const MAX_SILENCES = 15;

/**
 * Follows one agent's phases until it ends, does not answer any more, or `signal` aborts: tells of its progress, and freezes and thaws the guest when the
 * agent asks for it. Never rejects: the agent's pod has the last word on its run.
 */
export async function followAgent(options: FollowOptions): Promise<void> {
  const { address, log, signal } = options;
  const channel = new AgentChannel(address);
  let seen: Phase = "Starting";
  let frozen = false;
  let silences = 0;
  while (!signal.aborted && silences < MAX_SILENCES && seen !== "Ended") {
    try {
      const progress: AgentProgress = await channel.wait(seen, signal);
      silences = 0;
      options.onProgress(progress);
      if (progress.phase === seen) continue;
      seen = progress.phase;
      if (seen === "Freeze") frozen = await freeze(channel, options);
      else if (frozen) frozen = !(await thaw(options));
    } catch (err) {
      silences += 1;
      log.debug({ err, silences }, `an agent does not answer: ${errorText(err)}`);
      await systemClock.sleep(RETRY_MS, signal).catch(() => undefined);
    }
  }
  // Whatever became of the agent: the guest is not left frozen until its own time is over.
  if (frozen) await thaw({ ...options, signal: AbortSignal.timeout(10_000) });
}

async function freeze(channel: AgentChannel, { freezer, signal, log }: FollowOptions): Promise<boolean> {
  if (freezer === null) {
    await channel.frozen({ ok: false, message: "there is nobody who could freeze this guest" }, signal);
    return false;
  }
  let until: Date;
  try {
    until = await freezer.freeze(signal);
  } catch (thrown) {
    log.info({ err: thrown }, `the guest was not frozen: ${errorText(thrown)}`);
    await channel.frozen({ ok: false, message: errorText(thrown) }, signal);
    return false;
  }
  try {
    await channel.frozen({ ok: true, until }, signal);
  } catch (thrown) {
    await thaw({ freezer, log, signal: AbortSignal.timeout(10_000) });
    if (thrown instanceof ChannelError && thrown.code === "conflict") return false;
    throw thrown;
  }
  return true;
}

async function thaw({ freezer, log, signal }: Pick<FollowOptions, "freezer" | "log" | "signal">): Promise<boolean> {
  try {
    await freezer?.thaw(signal);
    return true;
  } catch (err) {
    log.warn({ err }, `the guest was not thawed, and thaws when its time is over: ${errorText(err)}`);
    return false;
  }
}
