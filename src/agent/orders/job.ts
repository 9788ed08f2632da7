import type { SucceededResult, WorkOrder } from "../../api/index.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Domains, Repository } from "../../repository/index.ts";
import type { Board } from "./board.ts";
import type { ChannelServer, Route } from "./channel-server.ts";

/** Opens one domain of the repository for `work` that may write. @param domain null: the one that every repository has */
export type WithRepository = <T>(domain: string | null, work: (repository: Repository) => Promise<T>) => Promise<T>;

/** Opens all domains of the repository for `work`. @param initialize an empty one is made where there is none; default false */
export type WithDomains = <T>(work: (domains: Domains) => Promise<T>, options?: { readonly initialize?: boolean }) => Promise<T>;

/** What the carrying out of any work is given. */
export interface OrderJob {
  readonly order: WorkOrder;
  /** where `order.json` lies, and the files beside it */
  readonly directory: string;
  readonly version: string;
  readonly board: Board;
  /** aborts at the deadline, and when the agent is to end */
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly withRepository: WithRepository;
  readonly withDomains: WithDomains;
  /** ms after which an agent that nobody asks anything ends */
  readonly servingMs: number;
  /** Called at every step, for tests that kill there. */
  readonly onStep: (step: string) => Promise<void>;
}

/** A kind of work: what it answers on the channel, and what it does. */
export interface OrderedWork {
  readonly routes: Readonly<Record<string, Route>>;
  readonly carryOut: (channel: ChannelServer) => Promise<SucceededResult>;
}
