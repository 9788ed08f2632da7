import { createHash } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";

import type { CallOptions, ListOptions, ObjectStat } from "../../src/objectstore/index.ts";
import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { Repository } from "../../src/repository/index.ts";

/** A clock that several processes share and that somebody moves on: real time, and the steps that were made up to then, one on each line of a file. */
export class SharedClock {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** Moves it on by so many hours from now on. */
  step(hours: number): void {
    appendFileSync(this.#file, `${Date.now()} ${hours}\n`);
  }

  /** What it showed at a real time. */
  at(real: Date): Date {
    const steps = readFileSync(this.#file, "utf8").trimEnd().split("\n");
    const hours = steps.reduce((sum, step) => {
      const [when = "", by = ""] = step.split(" ");
      return Number(when) <= real.getTime() ? sum + Number(by) : sum;
    }, 0);
    return new Date(real.getTime() + hours * 3_600_000);
  }
}

/** A directory whose clock, and so the age of what lies in it, is a shared one. */
export class ClockedStore extends FsObjectStore {
  readonly #clock: SharedClock;

  constructor(dir: string, clock: SharedClock) {
    super(dir);
    this.#clock = clock;
  }

  override async now(): Promise<Date> {
    return this.#clock.at(new Date());
  }

  override async stat(key: string, options?: CallOptions): Promise<ObjectStat> {
    return this.#shifted(await super.stat(key, options));
  }

  override async *list(prefix: string, options?: ListOptions): AsyncGenerator<ObjectStat, void, undefined> {
    for await (const stat of super.list(prefix, options)) yield this.#shifted(stat);
  }

  #shifted(stat: ObjectStat): ObjectStat {
    return { ...stat, modified: this.#clock.at(stat.modified) };
  }
}

/** The key of the repository in a directory: each has one of its own. */
export function keyOf(dir: string): Buffer {
  return createHash("sha256").update(dir).digest();
}

export async function openPlace(dir: string, clock: SharedClock): Promise<Repository> {
  return await Repository.open({ store: new ClockedStore(dir, clock), key: keyOf(dir) });
}
