/** A run that may start, or that has started. */
export interface Run {
  readonly id: string;
  /** `<namespace>/<name>` of its machine, which has one run at a time. */
  readonly machine: string;
  /** Null: of no policy. */
  readonly policy: string | null;
  /** Null: it is not known yet, or any will do. */
  readonly node: string | null;
  readonly repository: string;
  readonly createdAt: Date;
}

/** How many runs may go on at the same time. Absent: as many as there are. */
export interface RunLimits {
  /** In the whole cluster. */
  readonly inAll?: number;
  readonly perPolicy: (policy: string) => number | undefined;
  readonly perRepository: (repository: string) => number | undefined;
  /** On one node, for a run of this policy; the runs of all count. */
  readonly perNode: (policy: string | null) => number | undefined;
}

/** What a waiting run waits for. */
export type WaitReason = "ClusterLimit" | "MachineBusy" | "PolicyLimit" | "NodeLimit" | "RepositoryLimit";

export interface Barrier {
  readonly reason: WaitReason;
  readonly message: string;
}

export interface StartPlan<Pending extends Run = Run> {
  /** To be started, in this order. */
  readonly start: readonly Pending[];
  readonly waiting: readonly (Barrier & { readonly run: Pending })[];
}

/**
 * Which of the pending runs start. The next is always of the policy with the fewest runs under way, its oldest that fits; so a policy of
 * a thousand machines keeps no other waiting, and within a policy nothing overtakes but what waits for something else. Runs of no policy
 * count by their machine's namespace.
 */
export function planStarts<Pending extends Run>(
  pending: readonly Pending[],
  running: readonly Run[],
  limits: RunLimits,
): StartPlan<Pending> {
  const counts = new Counts(running, limits);
  const queues = new Map<string, Pending[]>();
  for (const run of pending.toSorted(oldestFirst)) {
    const queue = queues.get(groupOf(run));
    if (queue === undefined) queues.set(groupOf(run), [run]);
    else queue.push(run);
  }
  const start: Pending[] = [];
  const waiting: StartPlan<Pending>["waiting"][number][] = [];
  while (queues.size > 0) {
    const [group, queue] = nextQueue(queues, counts);
    const run = takeFirstThatFits(queue, counts, waiting);
    if (queue.length === 0) queues.delete(group);
    if (run === null) continue;
    counts.add(run);
    start.push(run);
  }
  return { start, waiting: waiting.toSorted((a, b) => oldestFirst(a.run, b.run)) };
}

/** What keeps a run from starting whatever else is pending: the limits that the runs under way reach by themselves. */
export function barrierOf(run: Run, running: readonly Run[], limits: RunLimits): Barrier | null {
  return new Counts(running, limits).barrier(run);
}

/** The runs under way, by everything that has a limit. */
class Counts {
  readonly #counts = new Map<string, number>();
  #all = 0;
  readonly #limits: RunLimits;

  constructor(running: readonly Run[], limits: RunLimits) {
    this.#limits = limits;
    for (const run of running) this.add(run);
  }

  add(run: Run): void {
    this.#all += 1;
    for (const key of [`machine ${run.machine}`, `group ${groupOf(run)}`, `node ${run.node}`, `repository ${run.repository}`]) {
      this.#counts.set(key, this.#of(key) + 1);
    }
  }

  ofGroup(group: string): number {
    return this.#of(`group ${group}`);
  }

  /** What keeps a run from starting. Limits only get tighter while runs start, so what waits once waits. */
  barrier({ machine, policy, node, repository }: Run): Barrier | null {
    if (this.#all >= limit(this.#limits.inAll)) return clusterLimit(limit(this.#limits.inAll));
    if (this.#of(`machine ${machine}`) > 0)
      return { reason: "MachineBusy", message: `waits until the run of ${machine} that is under way ends` };
    if (policy !== null && this.#of(`group policy ${policy}`) >= limit(this.#limits.perPolicy(policy))) {
      return full("PolicyLimit", `policy ${policy}`, limit(this.#limits.perPolicy(policy)));
    }
    if (this.#of(`repository ${repository}`) >= limit(this.#limits.perRepository(repository))) {
      return full("RepositoryLimit", `repository ${repository}`, limit(this.#limits.perRepository(repository)));
    }
    if (node !== null && this.#of(`node ${node}`) >= limit(this.#limits.perNode(policy))) {
      return full("NodeLimit", `node ${node}`, limit(this.#limits.perNode(policy)));
    }
    return null;
  }

  #of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }
}

function limit(value: number | undefined): number {
  return value ?? Infinity;
}

/** What every run waits for while as many are under way as the cluster may have. */
function clusterLimit(most: number): Barrier {
  return full("ClusterLimit", "the cluster", most);
}

function full(reason: WaitReason, what: string, most: number): Barrier {
  return { reason, message: `waits for its turn: ${what} may have ${most} ${most === 1 ? "run" : "runs"} under way, and has` };
}

function groupOf({ policy, machine }: Run): string {
  return policy === null ? `namespace ${machine.slice(0, machine.indexOf("/"))}` : `policy ${policy}`;
}

/** The queue whose group has the fewest runs under way; of several, the one with the oldest run. */
function nextQueue<Pending extends Run>(queues: ReadonlyMap<string, Pending[]>, counts: Counts): [string, Pending[]] {
  const [first, ...others] = [...queues];
  return others.reduce<[string, Pending[]]>(
    (best, other) => {
      const difference = counts.ofGroup(other[0]) - counts.ofGroup(best[0]);
      if (difference !== 0) return difference < 0 ? other : best;
      return oldestFirst(other[1][0] as Pending, best[1][0] as Pending) < 0 ? other : best;
    },
    first as [string, Pending[]],
  );
}

function takeFirstThatFits<Pending extends Run>(
  queue: Pending[],
  counts: Counts,
  waiting: (Barrier & { readonly run: Pending })[],
): Pending | null {
  let passed = 0;
  for (const run of queue) {
    passed += 1;
    const barrier = counts.barrier(run);
    if (barrier === null) {
      queue.splice(0, passed);
      return run;
    }
    waiting.push({ run, ...barrier });
  }
  queue.length = 0;
  return null;
}

function oldestFirst(a: Run, b: Run): number {
  if (a.createdAt.getTime() !== b.createdAt.getTime()) return a.createdAt.getTime() - b.createdAt.getTime();
  if (a.id === b.id) return 0;
  return a.id < b.id ? -1 : 1;
}
