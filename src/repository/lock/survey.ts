import { randomInt } from "node:crypto";

import type { DefaultLock, ObjectLocks, ObjectVersion } from "../../objectstore/index.ts";
import { PackNumbers } from "../format/pack-numbers.ts";
import { CONFIG, DOMAINS, HOLDS, KEYS, packsOf, POINTS, ROTATIONS, SLOTS } from "../layout.ts";
import { takePacks } from "../usage/stored-packs.ts";
import { lockName } from "./book.ts";
import { HOUR_MS, hourOf, isDue, timeOf } from "./due.ts";
import type { Needed } from "./needed.ts";
import { listVersions, type VersionedObject } from "./versions.ts";

/** Objects of whom the book is asked for proof. */
const SAMPLE = 32;
/** Where there is what has to stay, besides packs. */
const PREFIXES = [CONFIG, KEYS, SLOTS, ROTATIONS, DOMAINS, POINTS, HOLDS];
/** Where somebody takes away what is to end: a way in, a hold. */
const ENDED = [SLOTS, HOLDS];
/** Where the same may be put again: a key by rotation, a hold by who holds twice. */
const REPLACED = [KEYS, HOLDS];
/** Keys that are named in a report. */
const NAMED = 20;

/** An object whose lock may have to be extended. */
export interface Candidate {
  readonly key: string;
  readonly name: string;
  readonly versions: readonly ObjectVersion[];
  /** hour until which it is locked as far as is known, or must be supposed; the soonest come first */
  readonly until: number;
  /** whether the store is asked for its lock before anything is changed */
  readonly ask: boolean;
}

/** What the book says of one version. */
export interface Claim {
  readonly key: string;
  readonly version: string;
  readonly until: number;
}

export interface SurveyOptions {
  readonly domain: string;
  readonly at: Date;
  readonly periodMs: number;
  readonly byDefault: DefaultLock | null;
  /** as many candidates as there can be requests for */
  readonly budget: number;
  readonly signal: AbortSignal;
}

/** Objects of a kind that must not be there, and the first of their keys. */
export class Alarm {
  count = 0;
  readonly keys: string[] = [];

  add(key: string): void {
    this.count += 1;
    if (this.keys.length < NAMED) this.keys.push(key);
  }
}

/** What there is of what is needed. */
export interface Surveyed {
  /** hour until which each needed object that is there is locked; 1: not, or not known */
  readonly standing: PackNumbers;
  /** of what the book says */
  readonly sample: readonly Claim[];
  /** stored more than once, though nobody does that */
  readonly overwritten: Alarm;
  /** hidden by a marker, though needed */
  readonly hidden: Alarm;
  /** needed objects whose locks were known and have ended */
  readonly lapsed: number;
  /** how many are to be looked at */
  readonly due: number;
  /** those of them whose locks end soonest, and no more than there can be requests for */
  readonly candidates: readonly Candidate[];
}

/** Goes through all versions of all objects once, and keeps of them what has to be looked at. */
export class Survey {
  readonly #standing = new PackNumbers();
  readonly #sample: Claim[] = [];
  readonly #overwritten = new Alarm();
  readonly #hidden = new Alarm();
  #lapsed = 0;
  #due = 0;
  #candidates: Candidate[] = [];
  #claims = 0;
  readonly #needed: Needed;
  readonly #replaced: readonly string[];
  /** null: nothing is believed */
  readonly #book: PackNumbers | null;
  readonly #options: SurveyOptions;

  /** @param book what earlier runs wrote down; null: the store is asked for every lock */
  constructor(needed: Needed, book: PackNumbers | null, options: SurveyOptions) {
    this.#needed = needed;
    this.#replaced = needed.anyKey ? [HOLDS] : REPLACED;
    this.#book = book;
    this.#options = options;
  }

  /** What it resolves with holds on to neither what is needed nor the book: of millions of objects each is large. */
  async take(locks: ObjectLocks): Promise<Surveyed> {
    const { domain, signal } = this.#options;
    const list = (prefix: string): AsyncIterable<VersionedObject> => listVersions(locks, prefix, signal);
    for (const prefix of PREFIXES) for await (const object of list(prefix)) this.#look(object);
    await takePacks(packsOf(domain), list, (object) => this.#look(object));
    this.#shorten();
    return {
      standing: this.#standing,
      sample: this.#sample,
      overwritten: this.#overwritten,
      hidden: this.#hidden,
      lapsed: this.#lapsed,
      due: this.#due,
      candidates: this.#candidates,
    };
  }

  #look({ key, versions, hidden }: VersionedObject): void {
    this.#options.signal.throwIfAborted();
    const isOf = (prefix: string): boolean => key.startsWith(prefix);
    if (versions.length === 0 || !this.#needed.has(key) || (hidden && ENDED.some(isOf))) return;
    if (hidden) this.#hidden.add(key);
    const isReplaced = this.#replaced.some(isOf);
    if (versions.length > 1 && !isReplaced) this.#overwritten.add(key);
    // Of these the last one counts: of keys it is the one that opened the repository.
    this.#weigh(key, isReplaced ? versions.slice(-1) : versions);
  }

  #weigh(key: string, versions: readonly ObjectVersion[]): void {
    const name = lockName(key);
    const claimed = this.#book?.get(name) ?? 0;
    const [first, second] = versions;
    if (first === undefined) return;
    this.#standing.set(name, Math.max(1, claimed));
    // What was put later stands in no book.
    if (claimed === 0 || second !== undefined) {
      const until = Math.max(claimed, this.#supposed(first));
      // What is due as things stand is extended at once: the store itself refuses to make a lock shorter.
      const ask = this.#book === null || second !== undefined || !isDue(name, until, this.#options);
      this.#add({ key, name, versions, until, ask });
    } else if (isDue(name, claimed, this.#options)) {
      if (timeOf(claimed) <= this.#options.at) this.#lapsed += 1;
      this.#add({ key, name, versions, until: claimed, ask: false });
    } else {
      this.#draw({ key, version: first.version, until: claimed });
    }
  }

  #add(candidate: Candidate): void {
    this.#due += 1;
    this.#candidates.push(candidate);
    if (this.#candidates.length >= 2 * Math.max(1000, this.#options.budget)) this.#shorten();
  }

  /** The hour until which an object is locked if the bucket's default was then what it is now. */
  #supposed({ modified }: ObjectVersion): number {
    const { byDefault } = this.#options;
    if (byDefault === null) return 0;
    return hourOf(new Date(modified.getTime() + byDefault.days * 24 * HOUR_MS));
  }

  /** Each claim is as likely as any other to be in the sample. */
  #draw(claim: Claim): void {
    this.#claims += 1;
    if (this.#sample.length < SAMPLE) {
      this.#sample.push(claim);
      return;
    }
    const place = randomInt(this.#claims);
    if (place < SAMPLE) this.#sample[place] = claim;
  }

  #shorten(): void {
    this.#candidates = this.#candidates.toSorted((a, b) => a.until - b.until).slice(0, Math.max(1, this.#options.budget));
  }
}
