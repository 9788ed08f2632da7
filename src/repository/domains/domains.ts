import { mapConcurrently } from "../../lib/concurrency.ts";
import type { ObjectStore } from "../../objectstore/index.ts";
import type { CatalogListing, ListingOptions, UnreadablePoint } from "../catalog.ts";
import { domainDestroyed } from "../domain-key.ts";
import { RepositoryError } from "../errors.ts";
import { DEFAULT_DOMAIN } from "../format/domain.ts";
import { FormatError } from "../format/errors.ts";
import type { PointRecord } from "../format/point.ts";
import { type Credential, DomainCredential } from "../keys/credential.ts";
import { RepositoryKey } from "../keys/repository-key.ts";
import { KEYS, parsePointId, unknownPoint } from "../layout.ts";
import { readConfig } from "../read-config.ts";
import { Repository } from "../repository.ts";
import { type Found, idsBelow, type LostDomain, none, openAll, openPart, type Places } from "./open-domains.ts";
import { Owners } from "./owners.ts";
import type { Tombstone } from "./tombstone.ts";

const PARALLEL = 32;

export interface DomainsAccess extends Places {
  readonly key: Credential;
}

/** Some points of one domain. */
export interface DomainPage extends CatalogListing {
  readonly domain: Repository;
}

export interface DomainPoint {
  readonly point: PointRecord;
  readonly domain: Repository;
}

export interface DomainListing extends Pick<CatalogListing, "unreadable" | "held"> {
  readonly points: readonly DomainPoint[];
}

/** A repository with every domain that the key opens: for whoever reads, and prune. */
export class Domains {
  readonly store: ObjectStore;
  readonly config: Repository["config"];
  /** none only where all are destroyed */
  readonly opened: readonly Repository[];
  /** gone on purpose */
  readonly destroyed: readonly Tombstone[];
  /** about to be destroyed, by who has not come to its end; whole until then */
  readonly announced: readonly Tombstone[];
  /** gone, and nobody's purpose */
  readonly lost: readonly LostDomain[];
  /** Whether only one domain of perhaps several is opened. */
  readonly partial: boolean;
  /** Whether it was opened by the key of one domain, with which nothing is written or taken away. */
  readonly readsOnly: boolean;
  readonly #owners: Owners;
  /** There is nothing to tell apart, and nothing is asked for it. */
  readonly #alone: boolean;

  private constructor(store: ObjectStore, { config, opened, destroyed, announced, lost, partial, readsOnly }: Found) {
    this.store = store;
    this.config = config;
    this.destroyed = destroyed;
    this.announced = announced;
    this.lost = lost;
    this.partial = partial;
    this.readsOnly = readsOnly;
    this.#alone = opened.length === 1 && destroyed.length === 0 && lost.length === 0 && !partial;
    const buried = destroyed.flatMap(({ id, machines }) => machines.map((vm) => [vm, id] as const));
    const owners = new Owners(store, opened, new Map(buried));
    this.#owners = owners;
    this.opened = opened.map((domain) => {
      const owns = async (vmId: string, signal?: AbortSignal): Promise<boolean> => {
        const owner = await owners.of(vmId, signal);
        // What no key opens may be anybody's, and counts everywhere.
        return owner === null ? !partial : owner === domain.id;
      };
      return Repository.of({ store, config, ...domain, ...(this.#alone ? {} : { owns }) });
    });
  }

  /** Opens all of it, or with the key of one domain that domain. Rejects as `Repository.open`; what is wrong with one of several domains is in `lost`. */
  static async open({ store, key: credential, signal }: DomainsAccess): Promise<Domains> {
    const places = { store, ...(signal === undefined ? {} : { signal }) };
    const claim = await readConfig(store, places);
    if (credential instanceof DomainCredential) return new Domains(store, await openPart(claim, credential, places));
    const key = await RepositoryKey.find(claim, credential, places);
    try {
      return await Domains.of(key, places);
    } finally {
      key.wipe();
    }
  }

  /** The same for a key that was found already. */
  static async of(key: RepositoryKey, places: Places): Promise<Domains> {
    return new Domains(places.store, await openAll(key, places));
  }

  /** Whether there are, or were, others than the one that every repository has. */
  get several(): boolean {
    return this.opened.length + this.destroyed.length + this.lost.length > 1 || this.opened[0]?.domainName !== DEFAULT_DOMAIN;
  }

  /** The same with one domain alone, by its name. Rejects as `named`. */
  only(name: string): Domains {
    const { domain: id, keys, domainName } = this.named(name);
    const { config, readsOnly } = this;
    return new Domains(this.store, { config, opened: [{ id, keys, name: domainName }], ...none, partial: true, readsOnly });
  }

  /** A domain by its name, or where nothing says what it is called by its id. Rejects `domain-unknown`, `domain-destroyed`. */
  named(name: string): Repository {
    const found = this.opened.find((one) => one.label === name);
    if (found !== undefined) return found;
    const gone = this.destroyed.find((one) => one.name === name);
    if (gone !== undefined) throw domainDestroyed(name, gone.time);
    throw new RepositoryError("domain-unknown", `The repository has no domain ${name.slice(0, 64)} that this key opens`, {
      hint: `It has ${this.opened.map((one) => one.label).join(", ")}`,
    });
  }

  /** The domain of a point by its id. What is of no domain that can be told is left to the first one to complain of. */
  async holding(point: string, signal?: AbortSignal): Promise<Repository> {
    const [first] = this.opened;
    const { vmId } = parsePointId(point);
    if (first !== undefined && this.#alone) return first;
    const owner = await this.#owners.of(vmId, signal);
    const found = this.opened.find(({ domain }) => domain === owner);
    if (found !== undefined) return found;
    const gone = this.destroyed.find(({ id }) => id === owner);
    if (gone !== undefined) throw domainDestroyed(gone.name, gone.time);
    if (first === undefined) throw unknownPoint(point);
    if (!this.readsOnly) return first;
    throw new FormatError("wrong-key", `This key does not open the restore point ${point}: it is of another domain, damaged or not there`, {
      hint: "The key of one domain opens that domain's points alone",
    });
  }

  /** Those of the machines of which the domain's key opens something, also where no other domain is known: what lists leave out of another is not this one's. */
  async machinesOf(domain: string, vms: readonly string[], signal?: AbortSignal): Promise<string[]> {
    const found = await mapConcurrently(vms, PARALLEL, async (vm) => await this.#owners.of(vm, signal));
    return vms.filter((_, i) => found[i] === domain);
  }

  /** Points of all domains, a few hundred at a time, each with the domain it is of. There is one page at least. */
  async *pages(options: ListingOptions = {}): AsyncGenerator<DomainPage, void, undefined> {
    const told = new Set<string>();
    for (const domain of this.opened) {
      for await (const page of domain.catalog.pages(options)) {
        const fresh = page.unreadable.filter(({ id }) => !told.has(id));
        for (const { id } of fresh) told.add(id);
        yield { ...page, domain, unreadable: await this.withoutNewcomers(fresh, ({ id }) => id, options.signal) };
      }
    }
  }

  /** All points of all domains, oldest first in each. */
  async list(options: ListingOptions = {}): Promise<DomainListing> {
    const [points, unreadable]: [DomainPoint[], UnreadablePoint[]] = [[], []];
    let held: ReadonlySet<string> = new Set();
    for (const domain of this.opened) {
      const listing = await domain.catalog.list(options);
      held = listing.held;
      points.push(...listing.points.map((point) => ({ point, domain })));
      const told = new Set(unreadable.map(({ id }) => id));
      unreadable.push(...listing.unreadable.filter(({ id }) => !told.has(id)));
    }
    return { points, unreadable: await this.withoutNewcomers(unreadable, ({ id }) => id, options.signal), held };
  }

  /** The same, of which no more is kept than what `digest` makes of each point. */
  async digests<T>(
    options: ListingOptions,
    digest: (point: PointRecord, held: boolean, domain: Repository) => T,
  ): Promise<{ readonly points: readonly T[]; readonly unreadable: readonly UnreadablePoint[] }> {
    const points: T[] = [];
    const unreadable = new Map<string, UnreadablePoint>();
    for (const domain of this.opened) {
      const listing = await domain.catalog.digests(options, (point, held) => digest(point, held, domain));
      points.push(...listing.points);
      for (const one of listing.unreadable) unreadable.set(one.id, one);
    }
    return { points, unreadable: await this.withoutNewcomers([...unreadable.values()], ({ id }) => id, options.signal) };
  }

  /** Without points that no key at hand opens, where there are keys that were not there when this was opened: they may be of those. */
  async withoutNewcomers<T>(things: readonly T[], idOf: (thing: T) => string | null, signal?: AbortSignal): Promise<T[]> {
    if (things.length === 0 || this.partial || !(await this.#hasNewcomers(signal))) return [...things];
    const owned = await mapConcurrently(things, PARALLEL, async (thing) => {
      const vmId = /^([0-9a-f]{12})-/.exec(idOf(thing) ?? "")?.[1];
      return vmId === undefined || (await this.#owners.of(vmId, signal)) !== null;
    });
    return things.filter((_, i) => owned[i] === true);
  }

  /** Rejects `wrong-key` where the key is that of one domain: with it nothing is written and nothing taken away. */
  requireWhole(): void {
    if (!this.readsOnly) return;
    throw new FormatError(
      "wrong-key",
      "This is the key of one domain: it lists, restores and checks that domain's points, and does nothing else",
      {
        hint: "Give the repository's own key file, or a passphrase",
      },
    );
  }

  async #hasNewcomers(signal?: AbortSignal): Promise<boolean> {
    const known = new Set([...this.opened.map(({ domain }) => domain), ...this.lost.map(({ id }) => id)]);
    return (await idsBelow(KEYS, { store: this.store, ...(signal === undefined ? {} : { signal }) })).some((id) => !known.has(id));
  }
}
