import type { ChildProcess } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type AgentResult, parseAgentResult, type Phase, type Work, type WorkOrder } from "../../src/api/index.ts";
import { AgentChannel, ChannelError } from "../../src/controller/agents/agent-channel.ts";
import { SealingKey } from "../../src/lib/sealed-message.ts";
import { thinstream } from "../support/thinstream.ts";
import { orderOf } from "./order-values.ts";
import { freePort } from "./ports.ts";

/** What an agent's pod left. */
export interface AgentEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  /** null: it was killed before it wrote any */
  readonly result: AgentResult | null;
}

export interface RunningAgent {
  readonly channel: AgentChannel;
  readonly child: ChildProcess;
  readonly ended: Promise<AgentEnd>;
}

export interface StartOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** instead of the order's own */
  readonly digest?: string;
}

const PATIENCE = 60_000;
const never = new AbortController().signal;

/** A work order in a directory, as its Secret would be mounted. */
export class PlacedOrder {
  readonly order: WorkOrder;
  readonly dir: string;
  readonly key: SealingKey;

  private constructor(order: WorkOrder, dir: string) {
    this.order = order;
    this.dir = dir;
    this.key = SealingKey.fromBase64(order.channel.key);
  }

  static async place(dir: string, work: Work, changes: Partial<WorkOrder>): Promise<PlacedOrder> {
    mkdirSync(dir, { recursive: true });
    const channel = { port: await freePort(), key: SealingKey.random().toBase64() };
    const run = { uid: randomUUID(), kind: "VirtualMachineBackup", namespace: "team-a", name: "web-1", attempt: 1 };
    const placed = new PlacedOrder(orderOf(work, { channel, run, ...changes }), dir);
    writeFileSync(placed.file, JSON.stringify(placed.order));
    return placed;
  }

  get file(): string {
    return join(this.dir, "order.json");
  }

  get terminationLog(): string {
    return join(this.dir, "termination-log");
  }

  digest(): string {
    return digestOf(readFileSync(this.file));
  }

  start({ env, digest = this.digest() }: StartOptions = {}): RunningAgent {
    let child: ChildProcess | undefined;
    writeFileSync(this.terminationLog, "");
    const args = ["agent", "--order", this.file, "--digest", digest, "--termination-log", this.terminationLog];
    const ended = thinstream(args, { env: { POD_IP: "127.0.0.1", ...env }, onStart: (started) => (child = started) }).then((end) => ({
      code: end.code,
      signal: end.signal,
      stderr: end.stderr,
      result: this.#result(end.stdout),
    }));
    const channel = new AgentChannel({ host: "127.0.0.1", port: this.order.channel.port, key: this.key });
    return { channel, child: child as ChildProcess, ended };
  }

  async run(options: StartOptions = {}): Promise<AgentEnd> {
    return await this.start(options).ended;
  }

  #result(stdout: string): AgentResult | null {
    const text = readFileSync(this.terminationLog, "utf8");
    if (text !== stdout.trimEnd()) throw new Error(`termination log and standard output differ: ${text} and ${stdout}`);
    return text === "" ? null : parseAgentResult(text);
  }
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Follows an agent by its channel as the controller would, until it ends or is in this phase. @returns the phases seen, in order */
export async function follow({ channel, ended }: RunningAgent, until: Phase | null = null): Promise<Phase[]> {
  const seen: Phase[] = [];
  const over: AgentEnd[] = [];
  void ended.then((end) => over.push(end));
  for (const limit = Date.now() + PATIENCE; over.length === 0 && Date.now() < limit;) {
    try {
      const { phase } = seen.length === 0 ? await channel.progress(never) : await channel.wait(seen.at(-1) ?? "Starting", never);
      if (phase !== seen.at(-1)) seen.push(phase);
      if (phase === until) return seen;
    } catch (thrown) {
      // Not there yet, or not any more.
      if (!(thrown instanceof ChannelError) || thrown.code !== "unreachable") throw thrown;
      await sleep(20);
    }
  }
  if (until !== null) throw new Error(`it did not come to ${until}: ${JSON.stringify(over)}`);
  return seen;
}

/** Waits until a run has reached a step that it names in the file of its steps. */
export async function reachStep(file: string, step: string): Promise<void> {
  for (const limit = Date.now() + PATIENCE; !existsSync(file) || !readFileSync(file, "utf8").split("\n").includes(step); await sleep(20))
    if (Date.now() > limit) throw new Error(`it did not come to ${step}`);
}
