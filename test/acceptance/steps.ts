import { type ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { BackupStep, ImageStep, PullStep } from "../../src/agent/index.ts";
import { type CliResult, thinstream } from "../support/thinstream.ts";
import type { World } from "./world.ts";

/** Every step of a backup that succeeds, in order, as `Record`s so that a step that is added or renamed does not compile until it is tested here. */
const pull: Record<Exclude<PullStep, "checkpoint-undone"> | BackupStep, true> = {
  connected: true,
  "leftovers-cleared": true,
  "directory-made": true,
  "bases-defined": true,
  frozen: true,
  begun: true,
  thawed: true,
  exported: true,
  opened: true,
  "disks-written": true,
  "packs-stored": true,
  committed: true,
  "job-ended": true,
  "checkpoint-deleted": true,
  "directory-removed": true,
  "source-released": true,
  "head-written": true,
};
const image: Record<ImageStep, true> = {
  "leftovers-cleared": true,
  "directory-made": true,
  exported: true,
  "servers-ended": true,
  "directory-removed": true,
};

export type Step = keyof typeof pull | ImageStep | "checkpoint-undone";

export const pullSteps: readonly Step[] = Object.keys(pull) as Step[];
export const imageSteps: readonly Step[] = Object.keys(image) as Step[];

/** The steps that a machine without a guest agent comes by. */
export function withoutGuest(steps: readonly Step[]): Step[] {
  return steps.filter((step) => step !== "frozen" && step !== "thawed");
}

const DEADLINE = 60_000;

export interface Pause {
  readonly step: Step;
  /** Sent when the run waits at the step; or what else is done with the waiting run, which goes on when the file of its steps is removed. */
  readonly signal: NodeJS.Signals | ((child: ChildProcess, steps: string) => Promise<void>);
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs a command until it waits at a step, ends it there by a signal (or does something else meanwhile and lets it end), and gives what it left. */
export async function pauseAt(world: World, { step, signal, args, env }: Pause): Promise<CliResult> {
  const file = world.output("steps");
  let child: ChildProcess | undefined;
  const ended = thinstream(args, {
    env: { ...world.repo.env, ...env, THINSTREAM_STEPS: file, THINSTREAM_PAUSE_AT: step },
    onStart: (started) => (child = started),
  });
  let early: CliResult | undefined;
  void ended.then((result) => (early = result));
  for (const until = Date.now() + DEADLINE; !reached(file, step); await sleep(20)) {
    if (early !== undefined) throw new Error(`it ended before ${step}: ${early.stderr}${early.stdout}`);
    if (Date.now() > until) throw new Error(`it did not come to ${step} within ${DEADLINE / 1000} s`);
  }
  if (typeof signal === "string") child?.kill(signal);
  else await signal(child as ChildProcess, file);
  return await ended;
}

function reached(file: string, step: Step): boolean {
  return existsSync(file) && readFileSync(file, "utf8").split("\n").includes(step);
}
