import { errorText } from "../../lib/errors.ts";
import { type LibvirtDomain, LibvirtError, parseCheckpointDisks } from "../../libvirt/index.ts";
import { SourceError } from "../errors.ts";
import type { NbdDisk } from "../nbd-disk.ts";
import { isOurs } from "./checkpoint-name.ts";
import type { DomainSession } from "./domain-session.ts";
import type { JobDir } from "../job-dir.ts";
import { deleteCheckpoint, endJob } from "./leftovers.ts";
import type { LibvirtPullOptions } from "./options.ts";
import { watchScratch } from "./scratch-guard.ts";

export interface PullRunParts {
  readonly session: DomainSession;
  readonly dir: JobDir;
  readonly unlock: () => Promise<void>;
  readonly domainName: string;
  readonly options: LibvirtPullOptions;
}

/** What a run has on the host and in libvirt, and its two ends. Each end does its work once; a second call, or the other end after it, does nothing more. */
export class PullRun {
  readonly session: DomainSession;
  readonly dir: JobDir;
  readonly #parts: PullRunParts;
  readonly #disks: NbdDisk[] = [];
  #mayHaveJob = false;
  #checkpoint: string | null = null;
  #unwatch: () => void = () => undefined;
  #failure: SourceError | undefined;
  #ended: Promise<readonly string[]> | undefined;

  constructor(parts: PullRunParts) {
    this.#parts = parts;
    this.session = parts.session;
    this.dir = parts.dir;
  }

  /** From here on there may be a job, and this checkpoint. */
  beginning(checkpoint: string | null): void {
    this.#mayHaveJob = true;
    this.#checkpoint = checkpoint;
  }

  opened(disk: NbdDisk): void {
    this.#disks.push(disk);
  }

  /** Guards the scratch space: the job ends before the guest's own writes fail. */
  watch(): void {
    this.#unwatch = watchScratch(this.dir.scratchPath, this.#parts.options.scratchFloor, (error) => {
      this.#failure = error;
      this.#parts.options.log.error({ err: error, domain: this.#parts.domainName }, "ending the backup job");
      void this.#endJob().catch((err: unknown) => this.#parts.options.log.error({ err }, "the backup job could not be ended"));
    });
  }

  /** Why the export was lost. */
  async explain(lost: Error): Promise<Error> {
    if (this.#failure !== undefined) return this.#failure;
    const name = this.#parts.domainName;
    const state = await this.session.insist((domain) => domain.state()).catch(() => "gone");
    const why = ["shutoff", "crashed", "shutdown", "gone"].includes(state)
      ? "the machine was stopped"
      : "its backup job was ended from outside";
    return new SourceError("job-lost", `the disks of domain "${name}" cannot be read any more: ${why} during the backup`, { cause: lost });
  }

  /** See `BackupSource.commit`. `tracked` are the disks that the new checkpoint covers, `present` all that the machine has. */
  commit(tracked: readonly string[], present: ReadonlySet<string>): Promise<readonly string[]> {
    this.#ended ??= this.#commit(tracked, present);
    return this.#ended;
  }

  async #commit(tracked: readonly string[], present: ReadonlySet<string>): Promise<readonly string[]> {
    const warnings: string[] = [];
    await this.#attempt(warnings, "its backup job could not be ended", () => this.#endJob());
    await this.#step("job-ended");
    if (this.#checkpoint !== null && tracked.length > 0) {
      // A disk that this run left out still stands on the older checkpoint.
      const standing = new Set([...present].filter((disk) => !tracked.includes(disk)));
      const remove = (): Promise<void> => this.session.insist((domain) => this.#deleteSuperseded(domain, standing, warnings));
      await this.#attempt(warnings, "superseded checkpoints could not be deleted", remove);
    }
    await this.#step("checkpoint-deleted");
    await this.#leave(warnings);
    return warnings;
  }

  /** Of our checkpoints only the newest of each disk is of use. */
  async #deleteSuperseded(domain: LibvirtDomain, standing: ReadonlySet<string>, warnings: string[]): Promise<void> {
    for (const name of await domain.checkpointNames()) {
      if (!isOurs(name, this.#parts.options.repoTag) || name === this.#checkpoint) continue;
      const checkpoint = await domain.checkpoint(name);
      const disks = parseCheckpointDisks(await checkpoint.xml());
      await checkpoint.close();
      if (disks.some((disk) => standing.has(disk))) continue;
      const problem = await deleteCheckpoint(domain, name);
      if (problem !== null) warnings.push(problem);
    }
  }

  /** See `BackupSource.abort`. */
  async abort(): Promise<void> {
    this.#ended ??= this.#abort();
    await this.#ended;
  }

  async #abort(): Promise<readonly string[]> {
    const problems: string[] = [];
    await this.#attempt(problems, "its backup job could not be ended", () => this.#endJob());
    await this.#step("job-ended");
    const made = this.#checkpoint;
    if (made !== null) {
      await this.#attempt(problems, "its new checkpoint could not be deleted", async () => {
        const problem = await this.session.insist((domain) => deleteCheckpoint(domain, made));
        if (problem !== null) problems.push(problem);
      });
      await this.#step("checkpoint-undone");
    }
    await this.#leave(problems);
    for (const problem of problems) this.#parts.options.log.warn({ domain: this.#parts.domainName }, problem);
    return problems;
  }

  async #endJob(): Promise<void> {
    this.#unwatch();
    await Promise.all(this.#disks.map((disk) => disk.close()));
    if (!this.#mayHaveJob) return;
    await this.session.insist(endJob);
    this.#mayHaveJob = false;
  }

  async #leave(problems: string[]): Promise<void> {
    await this.#attempt(problems, "the run's directory could not be removed", () => this.dir.remove());
    await this.#step("directory-removed");
    await this.#attempt(problems, "the connection could not be closed", () => this.session.close());
    await this.#parts.unlock();
  }

  async #step(name: Parameters<NonNullable<LibvirtPullOptions["onStep"]>>[0]): Promise<void> {
    await this.#parts.options.onStep?.(name);
  }

  async #attempt(problems: string[], what: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      const gone = error instanceof LibvirtError && error.code === "no-domain";
      if (!gone) problems.push(`${what}: ${errorText(error)}`);
    }
  }
}
