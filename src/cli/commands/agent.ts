import { writeFile } from "node:fs/promises";
import { dirname } from "node:path";

import { orders } from "../../agent/index.ts";
import { type AgentResult, formatAgentResult, SERVING_MS, type StoreRequests, type WorkOrder } from "../../api/index.ts";
import { createLogger } from "../../lib/log.ts";
import type { Logger } from "../../lib/logger.ts";
import type { RequestCounts } from "../../objectstore/index.ts";
import { restoreByOrder } from "../../restore/index.ts";
import { type Context, type Outcome, withDomainsAt, withRepositoryAt } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { failureOf } from "../failure.ts";
import { stepHook } from "../step-hook.ts";

export interface AgentFlags {
  readonly order: string;
  /** `sha256:<hex>` */
  readonly digest: string;
  readonly terminationLog?: string;
}

/** `thinstream agent`: carries out one work order (docs/operator.md). Its result is a termination message; its log is for people. */
export async function agent(flags: AgentFlags, context: Context): Promise<Outcome> {
  const log = createLogger({ level: "info" });
  const result = await carryOut(flags, { ...context, log });
  const text = formatAgentResult(result);
  if (result.outcome === "Failed") log.error({ reason: result.reason, retryable: result.retryable }, result.message);
  else log.info({ warnings: result.warnings }, result.message);
  const told = await tell(flags.terminationLog, text, log);
  return { json: JSON.parse(text) as object, text, exitCode: told && result.outcome === "Succeeded" ? ExitCode.ok : ExitCode.failed };
}

/** Writes the termination message. Where that fails the result still goes to standard output, and the exit code says that something is wrong. */
async function tell(path: string | undefined, text: string, log: Logger): Promise<boolean> {
  try {
    if (path !== undefined) await writeFile(path, text);
    return true;
  } catch (err) {
    log.error({ err, path }, "The termination message could not be written");
    return false;
  }
}

/** What was asked of an S3 store; absent for another, or where it did not come to that. */
function requestsOf(counts: RequestCounts | undefined): { readonly requests?: StoreRequests } {
  if (counts === undefined) return {};
  const { get, read, stat: head, list, put, putIfAbsent, delete: removed } = counts;
  return { requests: { get: get + read, head, list, put: put + putIfAbsent, delete: removed } };
}

async function carryOut(flags: AgentFlags, context: Context): Promise<AgentResult> {
  const { signal, log, version } = context;
  let counts: (() => RequestCounts) | undefined;
  const onCounting = (counting: () => RequestCounts): void => {
    counts = counting;
  };
  try {
    const { readWorkOrder, runOrder } = await orders();
    const order = await readWorkOrder(flags.order, flags.digest);
    sayWhat(order, log);
    const { uploadBytesPerSecond: uploadRate } = order;
    const { url, keyFile } = order.repository;
    const credential = keyFile === null ? null : ({ kind: "key", path: keyFile } as const);
    const result = await runOrder({
      order,
      directory: dirname(flags.order),
      version,
      host: podAddress(),
      signal,
      log,
      withRepository: async (work, { domain, signal: whole }) => {
        const place = { url, credential, uploadRate, onCounting, ...(domain === null ? {} : { domain }) };
        return await withRepositoryAt(place, { ...context, signal: whole }, work);
      },
      withDomains: async (work, { initialize, signal: whole }) =>
        await withDomainsAt({ url, credential, uploadRate, initialize, onCounting }, { ...context, signal: whole }, work),
      restore: restoreByOrder,
      onStep: stepHook(signal),
      servingMs: servingMs(),
    });
    return { ...result, ...requestsOf(counts?.()) };
  } catch (thrown) {
    log.debug({ err: thrown }, "The work order failed");
    return { ...failureOf(thrown, signal), ...requestsOf(counts?.()) };
  }
}

function sayWhat({ run, work, deadline }: WorkOrder, log: Logger): void {
  log.info({ run, work: work.type, deadline }, `Carrying out ${run.kind} ${run.namespace === "" ? "" : `${run.namespace}/`}${run.name}`);
}

/** The pod's own address, from the downward API: nothing else of the node's network needs to reach the channel. */
function podAddress(): string | null {
  const address = process.env["POD_IP"] ?? "";
  return address === "" ? null : address;
}

/** For tests, which do not wait for minutes. */
function servingMs(): number {
  const text = process.env["THINSTREAM_SERVING_MS"] ?? "";
  return /^\d{1,7}$/.test(text) ? Number(text) : SERVING_MS;
}
