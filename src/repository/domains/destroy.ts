import type { ObjectStore } from "../../objectstore/index.ts";
import { domainIdOf, openDomainById } from "../domain-key.ts";
import { RepositoryError } from "../errors.ts";
import { Holds } from "../holds.ts";
import { domainKeyAt, HEADS, parsePointKey, POINTS } from "../layout.ts";
import type { RepositoryKey } from "../keys/repository-key.ts";
import { tryGet } from "../try-get.ts";
import { nameIfKnown } from "./domain-name.ts";
import { Domains } from "./domains.ts";
import { readTombstone, writeTombstone } from "./tombstone.ts";

const MAX_KEY_DOCUMENT = 4096;
/** Each more is a machine whose first backup was committed just then. */
const MOST_ROUNDS = 16;

interface Places {
  readonly store: ObjectStore;
  readonly signal: AbortSignal;
}

export interface DestroyedDomain {
  readonly id: string;
  readonly name: string;
  readonly time: string;
  readonly machines: number;
  /** whether that had been done before */
  readonly already: boolean;
}

/**
 * Destroys the key of a domain, FORMAT.md §4.3: first it is written down that this is meant, and which machines are the domain's; then the key goes,
 * and that moment is the destruction. What ends it before leaves the domain whole, and it can be done again. Rejects `domain-unknown`, `point-held`.
 */
export async function destroyDomain(name: string, key: RepositoryKey, places: Places): Promise<DestroyedDomain> {
  const id = domainIdOf(name, key);
  const at = domainKeyAt(id);
  if ((await tryGet(places.store, at, { ...places, maxBytes: MAX_KEY_DOCUMENT })) === null) return await destroyedBefore(name, key, places);
  const opened = await openDomainById(id, key, places);
  const created = (await nameIfKnown(opened, places))?.created ?? key.config.created;
  let machines = await machinesOf(id, key, places);
  await requireNoHolds(machines, name, places);
  // Twice: what was committed before the first one could be read is in the second, and who commits after that takes its point back.
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const time = (await places.store.now(places)).toISOString();
    await writeTombstone({ id, name, created, time, machines }, key, places);
    const all = [...new Set([...machines, ...(await machinesOf(id, key, places))])].toSorted();
    if (all.length === machines.length) break;
    machines = all;
  }
  await requireNoHolds(machines, name, places);
  await places.store.delete(at, places);
  const tombstone = await readTombstone(id, key, places);
  return { id, name, time: tombstone?.time ?? "", machines: machines.length, already: false };
}

async function destroyedBefore(name: string, key: RepositoryKey, places: Places): Promise<DestroyedDomain> {
  const id = domainIdOf(name, key);
  const tombstone = await readTombstone(id, key, places);
  if (tombstone !== null) return { id, name, time: tombstone.time, machines: tombstone.machines.length, already: true };
  throw new RepositoryError("domain-unknown", `The repository has no domain ${name.slice(0, 64)}, or ${domainKeyAt(id)} is lost`, {
    hint: "`thinstream key domains` lists what there is",
  });
}

/** Ids of the machines that are a domain's, in order. */
async function machinesOf(id: string, key: RepositoryKey, places: Places): Promise<string[]> {
  const domains = await Domains.of(key, places);
  const vms = new Set<string>();
  for await (const { key: at } of places.store.list(POINTS, places)) vms.add(parsePointKey(at)?.vmId ?? "");
  for await (const { key: at } of places.store.list(HEADS, places)) vms.add(at.slice(HEADS.length));
  vms.delete("");
  const all = [...vms].filter((vm) => /^[0-9a-f]{12}$/.test(vm)).toSorted();
  return await domains.machinesOf(id, all, places.signal);
}

/** A hold says that a point stays, come what may. */
async function requireNoHolds(machines: readonly string[], name: string, { store, signal }: Places): Promise<void> {
  const held = await new Holds(store).of(machines, signal);
  if (held.length === 0) return;
  throw new RepositoryError(
    "point-held",
    `The domain ${name} has ${held.length} restore points that are held, and was not destroyed: ${held.slice(0, 5).join(", ")}`,
    {
      hint: "`thinstream point release` lets go of them",
    },
  );
}
