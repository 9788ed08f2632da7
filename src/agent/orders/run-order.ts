import {
  type RestoreWork,
  rfc3339,
  SERVING_MS,
  type SucceededResult,
  WAIT_MS,
  type Work,
  type WorkOrder,
  type WorkType,
} from "../../api/index.ts";
import type { Logger } from "../../lib/logger.ts";
import { SealingKey } from "../../lib/sealed-message.ts";
import type { Repository } from "../../repository/index.ts";
import { backupWork } from "./backup.ts";
import { Board } from "./board.ts";
import { catalogWork } from "./catalog.ts";
import { checkWork } from "./check.ts";
import { ChannelServer, type Route } from "./channel-server.ts";
import { OrderError } from "./errors.ts";
import { forgetWork } from "./forget.ts";
import { inspectWork } from "./inspect.ts";
import type { OrderedWork, OrderJob } from "./job.ts";
import { lockWork } from "./lock.ts";
import { pruneWork } from "./prune.ts";

/** Longest delay that Node's timers take, ms. */
const MAX_DELAY = 2 ** 31 - 1;

export interface OrderRequest {
  readonly order: WorkOrder;
  /** where `order.json` lies, and the files beside it */
  readonly directory: string;
  readonly version: string;
  /** address to listen on; null: all */
  readonly host: string | null;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly withRepository: <T>(
    work: (repository: Repository) => Promise<T>,
    options: { readonly signal: AbortSignal; readonly initialize: boolean },
  ) => Promise<T>;
  /** Carries out work that is not the agent's own. */
  readonly restore: (job: RestoreJob) => Promise<SucceededResult>;
  readonly onStep: (step: string) => Promise<void>;
  /** ms; default five minutes */
  readonly servingMs?: number;
}

export interface RestoreJob {
  readonly repository: Repository;
  readonly work: RestoreWork;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: { readonly totalBytes: number; readonly doneBytes: number; readonly writtenBytes: number }) => void;
  readonly onStep: (step: string) => Promise<void>;
}

/** Carries out a work order, with its channel open from beginning to end. Rejects with the error of what failed, and leaves nothing behind then. */
export async function runOrder(request: OrderRequest): Promise<SucceededResult> {
  const { order, signal, log, host } = request;
  const board = new Board();
  const deadline = deadlineOf(order);
  const whole = AbortSignal.any([signal, deadline.signal]);
  const job: OrderJob = {
    servingMs: SERVING_MS,
    ...request,
    board,
    signal: whole,
    withRepository: async (work, { initialize = false } = {}) => await request.withRepository(work, { signal: whole, initialize }),
  };
  try {
    job.signal.throwIfAborted();
    const ordered = workOf(order.work, job, request.restore);
    const key = SealingKey.fromBase64(order.channel.key);
    const channel = await ChannelServer.open({
      port: order.channel.port,
      host,
      key,
      log,
      routes: { ...progressRoutes(board), ...ordered.routes },
    });
    try {
      const result = await ordered.carryOut(channel);
      const { totalBytes } = board.progress;
      return totalBytes === 0 ? result : { ...result, totalBytes };
    } finally {
      board.enter("Ended");
      await channel.close();
    }
  } catch (thrown) {
    // Whatever broke off then did so because the time was over.
    if (deadline.signal.aborted && !signal.aborted) throw deadline.signal.reason;
    throw thrown;
  } finally {
    deadline.clear();
  }
}

/** By kind of work: a kind that is added to the contract does not compile until it is here. */
const kinds: {
  readonly [T in WorkType]: (work: Extract<Work, { readonly type: T }>, job: OrderJob, restore: OrderRequest["restore"]) => OrderedWork;
} = {
  backup: backupWork,
  catalog: catalogWork,
  check: checkWork,
  forget: forgetWork,
  inspect: inspectWork,
  lock: lockWork,
  prune: pruneWork,
  restore: (work, job, restore) => ({ routes: {}, carryOut: async () => await restoreWork(work, job, restore) }),
};

function workOf<T extends WorkType>(
  work: Extract<Work, { readonly type: T }>,
  job: OrderJob,
  restore: OrderRequest["restore"],
): OrderedWork {
  return kinds[work.type](work, job, restore);
}

async function restoreWork(
  work: RestoreWork,
  { board, signal, withRepository, onStep }: OrderJob,
  restore: OrderRequest["restore"],
): Promise<SucceededResult> {
  return await withRepository(async (repository) => {
    board.enter("Copying");
    return await restore({
      repository,
      work,
      signal,
      onStep,
      onProgress: ({ totalBytes, doneBytes, writtenBytes }) =>
        board.count({ totalBytes, doneBytes, readBytes: 0, storedBytes: writtenBytes }),
    });
  });
}

function progressRoutes(board: Board): Readonly<Record<string, Route>> {
  return {
    "GET /progress": () => Promise.resolve(board.progress),
    "GET /wait": async ({ query, signal }) => {
      await board.changed(query.get("seen") ?? "", WAIT_MS, signal);
      return board.progress;
    },
  };
}

function deadlineOf({ deadline, run }: WorkOrder): { readonly signal: AbortSignal; readonly clear: () => void } {
  const passed = new AbortController();
  const pass = (): void =>
    passed.abort(
      new OrderError("deadline", `The deadline of ${run.kind} ${run.name} has passed (${rfc3339(deadline)})`, {
        hint: "Allow it more time",
      }),
    );
  const left = Date.parse(deadline) - Date.now();
  if (!(left > 0)) pass();
  // A run that is as old as that does not commit any more.
  const timer = setTimeout(() => left <= MAX_DELAY && pass(), Math.min(Math.max(left, 0) || 0, MAX_DELAY));
  return { signal: passed.signal, clear: () => clearTimeout(timer) };
}
