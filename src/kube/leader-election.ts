import { type ErrorDetails, ThinstreamError, errorText } from "../lib/errors.ts";
import { anySignal, withTimeout } from "../lib/abort.ts";
import { systemClock } from "../lib/clock.ts";
import { type Logger, silentLogger } from "../lib/logger.ts";
import type { KubeClient } from "./client.ts";
import { isKubeError } from "./errors.ts";
import { type Lease, holderOf, leases, microTime } from "./lease.ts";

export interface LeaderElectionOptions {
  readonly namespace: string;
  /** of the Lease */
  readonly name: string;
  /** Unlike that of any other candidate: the pod's name and something by chance. */
  readonly identity: string;
  /** milliseconds after its last renewal until others may take the lease; default 15,000 */
  readonly leaseMs?: number;
  /** milliseconds after its last renewal until the leader stops by itself; default 10,000, and less than `leaseMs` */
  readonly renewDeadlineMs?: number;
  /** milliseconds between tries; default 2,000 */
  readonly retryMs?: number;
  readonly logger?: Logger;
}

/** Leadership has ended though nobody asked for it: what was begun as leader has to stop. */
export class LeadershipLostError extends ThinstreamError<"leadership-lost"> {
  override readonly name = "LeadershipLostError";

  constructor(message: string, details: ErrorDetails = {}) {
    super("leadership-lost", message, details);
  }
}

/** An uninstall takes the role away before it ends the pods that have it; a namespace that is deleted, all at once. */
const taken = "the lease is not given back: the role that allows it, or the lease itself, was taken away, as by an uninstall";

/** What is known of the lease: what it said, and when it was last seen to change, by our own clock: those of others are not compared. */
interface Observed {
  readonly lease: Lease;
  readonly at: number;
}

/**
 * One of several candidates leads, by a Lease. The leader stops `renewDeadlineMs` after it last began to renew with success, well before
 * anyone else may take over, so that no two act at a time as long as actions heed the signal.
 */
export class LeaderElection {
  readonly #client: KubeClient;
  readonly #options: Required<Omit<LeaderElectionOptions, "logger">>;
  readonly #logger: Logger;
  #observed: Observed | null = null;
  #heldUntil = 0;

  constructor(client: KubeClient, options: LeaderElectionOptions) {
    const { leaseMs = 15_000, renewDeadlineMs = 10_000, retryMs = 2_000 } = options;
    if (!(retryMs < renewDeadlineMs && renewDeadlineMs < leaseMs)) {
      throw new RangeError(
        `a lease of ${leaseMs} ms, renewed within ${renewDeadlineMs} ms, tried every ${retryMs} ms: each must be less than the one before`,
      );
    }
    this.#client = client;
    this.#options = { namespace: options.namespace, name: options.name, identity: options.identity, leaseMs, renewDeadlineMs, retryMs };
    this.#logger = (options.logger ?? silentLogger).child({ lease: `${options.namespace}/${options.name}`, identity: options.identity });
  }

  /** Who leads, as far as is known here; empty when nobody does. */
  get leader(): string {
    return this.#observed === null ? "" : holderOf(this.#observed.lease);
  }

  /** Whether this candidate leads at this very moment. */
  get isLeader(): boolean {
    return performance.now() < this.#heldUntil;
  }

  /**
   * Waits for leadership, then runs `lead` with a signal that aborts when leadership ends or `signal` does. Resolves when `signal` aborted
   * and `lead` has ended; the lease is kept until then, and given back. Rejects with `LeadershipLostError`, after `lead` has ended, when leadership was lost,
   * and with what `lead` throws. A `lead` that returns gives leadership back.
   */
  async run(signal: AbortSignal, lead: (leadership: AbortSignal) => Promise<void>): Promise<void> {
    if (!(await this.#acquire(signal))) return;
    this.#logger.info({}, "leading");
    const lost = new AbortController();
    const ended = new AbortController();
    const led = lead(anySignal(lost.signal, signal))
      .then(
        () => null,
        (thrown: unknown) => ({ thrown }),
      )
      .finally(() => ended.abort());
    // Beyond `signal` too: the lease is ours until `lead` has come to its end.
    const loss = await this.#keep(ended.signal);
    if (loss !== null) {
      this.#logger.error({ err: loss }, loss.message);
      lost.abort(loss);
    }
    const failure = await led;
    this.#heldUntil = 0;
    if (loss !== null) throw loss;
    await this.#release();
    if (failure !== null && failure.thrown !== signal.reason) throw failure.thrown;
  }

  /** False when `signal` aborted first. */
  async #acquire(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      try {
        if (await this.#tryAcquire(signal)) return true;
      } catch (err) {
        if (signal.aborted) break;
        this.#logger.warn({ err }, `the lease cannot be taken: ${errorText(err)}`);
      }
      // Candidates that began together would meet at every try.
      await systemClock.sleep(this.#options.retryMs * (1 + Math.random() * 0.2), signal).catch(() => undefined);
    }
    return false;
  }

  async #tryAcquire(signal: AbortSignal): Promise<boolean> {
    const { namespace, name, identity, renewDeadlineMs } = this.#options;
    const begun = performance.now();
    const call = { signal, timeoutMs: renewDeadlineMs, lane: "urgent" as const };
    try {
      this.#observe(await this.#client.get(leases, { namespace, name }, call));
    } catch (thrown) {
      if (!isKubeError(thrown, "not-found")) throw thrown;
      return await this.#write(begun, () => this.#client.create(leases, { metadata: { namespace, name }, spec: this.#spec(null) }, call));
    }
    const observed = this.#observed;
    if (observed === null || (holderOf(observed.lease) !== "" && holderOf(observed.lease) !== identity && !this.#hasExpired(observed)))
      return false;
    return await this.#write(begun, () => this.#client.replace(leases, { ...observed.lease, spec: this.#spec(observed.lease) }, call));
  }

  /** Renews until `signal` aborts (null) or leadership is lost (why). */
  async #keep(signal: AbortSignal): Promise<LeadershipLostError | null> {
    let trouble: unknown = null;
    for (;;) {
      const pause = Math.min(this.#options.retryMs, Math.max(0, this.#heldUntil - performance.now()));
      await systemClock.sleep(pause, signal).catch(() => undefined);
      if (signal.aborted) return null;
      const left = this.#heldUntil - performance.now();
      if (left <= 0) return new LeadershipLostError("the lease could not be renewed in time: leadership has ended", { cause: trouble });
      try {
        const ours = await withTimeout({ ms: left, what: "the renewal of the lease", signal }, (inTime) => this.#renew(inTime));
        if (!ours) return new LeadershipLostError(`leadership has gone to ${this.leader || "nobody"}`);
      } catch (thrown) {
        if (signal.aborted) return null;
        trouble = thrown;
        this.#logger.warn({ err: thrown }, `the lease cannot be renewed: ${errorText(thrown)}`);
      }
    }
  }

  /** False when the lease is not ours any more. */
  async #renew(signal: AbortSignal): Promise<boolean> {
    const { namespace, name, identity } = this.#options;
    const begun = performance.now();
    const call = { signal, lane: "urgent" as const };
    const known = this.#observed?.lease;
    if (
      known !== undefined &&
      (await this.#write(begun, () => this.#client.replace(leases, { ...known, spec: this.#spec(known) }, call)))
    ) {
      return true;
    }
    try {
      const lease = await this.#client.get(leases, { namespace, name }, call);
      this.#observe(lease);
      // Ours still, in a version we have not seen: an answer to us was lost. The next try renews it.
      return holderOf(lease) === identity;
    } catch (thrown) {
      // Whoever comes first may make it anew.
      if (isKubeError(thrown, "not-found")) return false;
      throw thrown;
    }
  }

  /** Whether the lease is ours by what was written; false where somebody was faster. */
  async #write(begun: number, write: () => Promise<Lease>): Promise<boolean> {
    try {
      this.#observe(await write());
    } catch (thrown) {
      if (isKubeError(thrown, "conflict", "already-exists", "not-found")) return false;
      throw thrown;
    }
    // From when it was sent: the server may have stored it at any moment since.
    this.#heldUntil = begun + this.#options.renewDeadlineMs;
    return true;
  }

  async #release(): Promise<void> {
    const known = this.#observed?.lease;
    if (known === undefined || holderOf(known) !== this.#options.identity) return;
    const spec = { ...this.#spec(known), holderIdentity: "", leaseDurationSeconds: 1 };
    try {
      await this.#client.replace(leases, { ...known, spec }, { timeoutMs: this.#options.retryMs, lane: "urgent" });
      this.#logger.info({}, "leadership given back");
    } catch (err) {
      if (isKubeError(err, "forbidden", "not-found")) this.#logger.info({}, taken);
      else this.#logger.warn({ err }, `the lease could not be given back, others wait until it has expired: ${errorText(err)}`);
    }
  }

  #spec(before: Lease | null): NonNullable<Lease["spec"]> {
    const { identity, leaseMs } = this.#options;
    const now = microTime(systemClock.now());
    const mine = before !== null && holderOf(before) === identity;
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseMs / 1000),
      acquireTime: (mine ? before.spec?.acquireTime : undefined) ?? now,
      renewTime: now,
      leaseTransitions: (before?.spec?.leaseTransitions ?? 0) + (before === null || mine ? 0 : 1),
    };
  }

  #observe(lease: Lease): void {
    const same = this.#observed?.lease.metadata.resourceVersion === lease.metadata.resourceVersion;
    if (!same) this.#observed = { lease, at: performance.now() };
  }

  #hasExpired({ lease, at }: Observed): boolean {
    // One made by hand may not say for how long it is held.
    const seconds = lease.spec?.leaseDurationSeconds ?? this.#options.leaseMs / 1000;
    return performance.now() >= at + seconds * 1000;
  }
}
