import type { ObjectStore } from "../../objectstore/index.ts";
import { domainIdOf, ensureName, openDomainById } from "../domain-key.ts";
import { RepositoryError } from "../errors.ts";
import { DEFAULT_DOMAIN } from "../format/domain.ts";
import { formatDomainKeyFile } from "../format/key-file.ts";
import type { RepositoryKey } from "../keys/repository-key.ts";
import { domainKeyAt, FORGOTTEN, parsePointKey, POINTS } from "../layout.ts";
import { hasAny } from "../try-get.ts";
import { nameIfKnown } from "./domain-name.ts";
import { Domains } from "./domains.ts";
import type { Tombstone } from "./tombstone.ts";

interface Places {
  readonly store: ObjectStore;
  readonly signal: AbortSignal;
}

/**
 * `whole`: its points can be read; `destroying`: somebody began to destroy it and did not come to the end; `destroyed`; `lost`: its key is missing or
 * damaged, and nobody destroyed it.
 */
export type DomainState = "whole" | "destroying" | "destroyed" | "lost";

/** A domain, as `key domains` shows it. */
export interface DomainView {
  readonly id: string;
  /** null: nothing says it */
  readonly name: string | null;
  readonly created: string | null;
  readonly state: DomainState;
  /** points in the bucket that are not forgotten; null where nobody can tell which are its own */
  readonly points: number | null;
  /** when it was destroyed, or was to be */
  readonly destroyed: string | null;
  /** what is wrong; empty where nothing is */
  readonly detail: string;
}

/** All domains there are or were, those that can be read first. */
export async function listDomains(key: RepositoryKey, places: Places): Promise<DomainView[]> {
  const domains = await Domains.of(key, places);
  const counts = await countPoints(places);
  const count = async (id: string): Promise<number> => {
    const vms = await domains.machinesOf(id, [...counts.keys()], places.signal);
    return vms.reduce((sum, vm) => sum + (counts.get(vm) ?? 0), 0);
  };
  const views: DomainView[] = [];
  for (const { domain: id, domainName: name, keys } of domains.opened) {
    const facts = await nameIfKnown({ id, keys }, places);
    const created = facts?.created ?? (name === DEFAULT_DOMAIN ? key.config.created : null);
    const announced = domains.announced.find((one) => one.id === id);
    views.push({ id, name, created, points: await count(id), ...(announced === undefined ? WHOLE : destroying(announced)) });
  }
  for (const { id, name, created, time } of domains.destroyed)
    views.push({ id, name, created, state: "destroyed", points: await count(id), destroyed: time, detail: "" });
  for (const { id, name, error } of domains.lost)
    views.push({ id, name, created: null, state: "lost", points: null, destroyed: null, detail: error.message });
  return views;
}

const WHOLE = { state: "whole", destroyed: null, detail: "" } as const;

function destroying({ id, time }: Tombstone): Pick<DomainView, "state" | "destroyed" | "detail"> {
  const detail = `Its destruction was begun and not ended: \`thinstream key destroy-domain\` ends it; if it was not meant, remove destroyed/${id}`;
  return { state: "destroying", destroyed: time, detail };
}

/** Points that nobody has forgotten, by machine. */
async function countPoints({ store, signal }: Places): Promise<ReadonlyMap<string, number>> {
  const forgotten = new Set<string>();
  for await (const { key } of store.list(FORGOTTEN, { signal })) forgotten.add(key.slice(FORGOTTEN.length));
  const counts = new Map<string, number>();
  for await (const { key } of store.list(POINTS, { signal })) {
    const place = parsePointKey(key);
    if (place !== null && !forgotten.has(key.slice(POINTS.length))) counts.set(place.vmId, (counts.get(place.vmId) ?? 0) + 1);
  }
  return counts;
}

/** The line of a key file that opens one domain and no other. Rejects `domain-unknown`. */
export async function exportDomain(name: string, key: RepositoryKey, places: Places): Promise<string> {
  const id = domainIdOf(name, key);
  if (!(await hasAny(places.store, domainKeyAt(id), places.signal))) {
    throw new RepositoryError("domain-unknown", `The repository has no domain ${name.slice(0, 64)}`, {
      hint: "`thinstream key domains` lists what there is",
    });
  }
  const opened = await openDomainById(id, key, places);
  // By it the owner of the key sees that it is the right one.
  await ensureName(name, opened, places);
  return formatDomainKeyFile({ repositoryId: key.config.id, domain: id, key: Buffer.from(opened.keys.domainKey) });
}
