import { noteDamage, readDamage } from "../damage.ts";
import type { Repository } from "../repository.ts";
import type { Finding } from "./finding.ts";
import type { PackDamage } from "./pack-check.ts";

/** A machine's newest point. */
export interface NewestPoint {
  readonly id: string;
  readonly vm: string;
}

/**
 * Writes down what is damaged of the machines' newest points, so that their next backups store it again; what earlier checks wrote down of them
 * stays. Resolves with whether it could be written, and with true where there is nothing to write.
 */
export async function noteForBackups(
  repository: Repository,
  {
    damages,
    findings,
    newest,
  }: { readonly damages: readonly PackDamage[]; readonly findings: readonly Finding[]; readonly newest: readonly NewestPoint[] },
  signal: AbortSignal,
): Promise<boolean> {
  const points = new Map(newest.flatMap((point) => disksOf(point, findings)));
  if (points.size === 0) return true;
  const packs = new Map(damages.map(({ pack, offsets }) => [pack, offsets]));
  const known = await readDamage(repository, signal);
  return await noteDamage(repository, known.with({ packs, points }, new Set(newest.map(({ id }) => id))), signal);
}

/** A point's disks with damage; null where it is not known which. */
function disksOf({ id, vm }: NewestPoint, findings: readonly Finding[]): [string, ReadonlySet<string> | null][] {
  const touching = findings.filter(({ points }) => points.includes(id));
  if (touching.length === 0) return [];
  const places = touching.map((finding) => finding.places.filter((place) => place.vm === vm));
  if (places.some((found) => found.length === 0)) return [[id, null]];
  // A captured file is stored with every point.
  const disks = new Set(places.flat().flatMap(({ name, offset }) => (offset === null ? [] : [name])));
  return disks.size === 0 ? [] : [[id, disks]];
}
