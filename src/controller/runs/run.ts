import type { SucceededResult, WorkType } from "../../api/index.ts";
import type { KubeObject, ResourceKind } from "../../kube/index.ts";
import type { GuestFreezer } from "../agents/follower.ts";
import type { AgentObjects } from "../agents/job.ts";
import type { Condition } from "../../api/index.ts";

/** The status that backups and restores have in common. */
export interface RunStatus {
  readonly observedGeneration?: number;
  readonly conditions?: readonly Condition[];
  readonly startTime?: string;
  readonly completionTime?: string;
  readonly nodeName?: string;
  readonly attempts?: number;
  readonly agentPod?: { readonly namespace: string; readonly name: string };
  readonly progress?: { readonly percent: number; readonly doneBytes: number; readonly totalBytes: number };
  readonly warnings?: readonly string[];
  readonly lastFailure?: { readonly time: string; readonly nodeName?: string; readonly message: string; readonly agentLog?: string };
}

/** A resource that asks for one piece of work, once. */
export interface RunResource extends KubeObject {
  readonly spec: { readonly deadline: string; readonly backoffLimit: number };
  readonly status?: RunStatus;
}

/** What a run needs before an agent can begin. */
export type Preparation =
  /** Nothing can be done before somebody changes something; final where no change could help. */
  | { readonly kind: "refuse"; readonly reason: string; readonly message: string; readonly final: boolean }
  | { readonly kind: "wait"; readonly reason: string; readonly message: string; readonly againInMs: number; readonly status?: object }
  /** Done without an agent. */
  | { readonly kind: "done"; readonly reason: string; readonly message: string; readonly status: object }
  | { readonly kind: "start"; readonly objects: AgentObjects; readonly nodeName: string | null; readonly status: object };

/** What is left to say of a run whose agent succeeded. */
export type Completion =
  | { readonly kind: "done"; readonly message: string; readonly warnings: readonly string[]; readonly status: object }
  /** More is to be done first. */
  | { readonly kind: "wait"; readonly reason: string; readonly message: string }
  /** The agent's work was in vain. */
  | { readonly kind: "failed"; readonly reason: string; readonly message: string; readonly retryable: boolean };

/** Why a run under way has to end now. */
export interface Stop {
  readonly reason: string;
  readonly message: string;
  /** no attempt follows; else the next begins when the reason has passed */
  readonly final: boolean;
}

/** What makes backups and restores different. */
export interface RunKind<T extends RunResource = RunResource> {
  readonly resource: ResourceKind<T>;
  /** as the cache has it */
  known(key: string): T | undefined;
  readonly work: WorkType;
  /** Whether another agent may begin while one may work on, on a node that nobody hears from. */
  readonly mayOverlap: boolean;
  /** reasons of `Succeeded`, and a word for events */
  readonly words: {
    readonly busy: string;
    readonly action: string;
    readonly started: string;
    readonly succeeded: string;
    readonly failed: string;
  };
  prepare(run: T, attempt: number, signal: AbortSignal): Promise<Preparation>;
  freezer(run: T): GuestFreezer | null;
  /** Null where it goes on. */
  mustAbort(run: T, signal: AbortSignal): Promise<Stop | null>;
  /** the reasons of its final stops: said while its agent is there yet, each is decided, whatever becomes of the agent */
  readonly finalStops: readonly string[];
  completed(run: T, result: SucceededResult, signal: AbortSignal): Promise<Completion>;
  /** How a failure that the agent named reads as a reason of `Succeeded`. */
  reasonOf(failure: string): string;
  /** What is left once the run is done, one way or the other. Resolves with when to look again. */
  afterEnd(run: T, signal: AbortSignal): Promise<{ readonly againInMs: number } | undefined>;
}
