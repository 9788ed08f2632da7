import { formatBytes } from "../../lib/bytes.ts";
import { GRANULE } from "../format/constants.ts";
import { FrameSealer } from "../format/frame.ts";
import type { PointRecord } from "../format/point.ts";
import { ImageMap } from "../map/image-map.ts";
import { NodeReader } from "../map/node-reader.ts";
import type { Repository } from "../repository.ts";
import type { PackDamage } from "./pack-check.ts";

/** One thing a check found wrong, and whose data it touches. */
export interface Finding {
  /** object, disk or capture the sentence is about */
  readonly what: string;
  readonly reason: string;
  /** points that do not restore whole because of it */
  readonly points: readonly string[];
  /** where in machines it is, as far as that was looked for; empty where all of the points is meant */
  readonly places: readonly DamagedPlace[];
}

/** A part of a machine's disk, or a file that was kept with it. */
export interface DamagedPlace {
  readonly vm: string;
  /** name of the disk or file */
  readonly name: string;
  /** bytes from its start; null for a file */
  readonly offset: number | null;
  /** bytes; null for a file */
  readonly length: number | null;
}

/** Which of the points that use a damaged pack use what is damaged in it, and where. */
export async function blame(
  repository: Repository,
  damage: PackDamage,
  { candidates, signal }: { readonly candidates: readonly PointRecord[]; readonly signal: AbortSignal },
): Promise<Finding> {
  const touched: string[] = [];
  const places = new Map<string, DamagedPlace>();
  for (const point of candidates) {
    const found = await placesIn(repository, point, { ...damage, signal });
    if (found.length === 0 && damage.offsets !== null) continue;
    touched.push(point.id);
    for (const place of found) places.set(JSON.stringify(place), place);
  }
  const all = [...places.values()];
  return { what: damage.key, reason: `${damage.reason}${shownPlaces(all)}`, points: touched, places: all };
}

/** Where in a point's disks and files something damaged shows. */
async function placesIn(
  repository: Repository,
  point: PointRecord,
  { pack, offsets, signal }: PackDamage & { readonly signal: AbortSignal },
): Promise<DamagedPlace[]> {
  const hit = (reference: { readonly pack: string; readonly offset: number }): boolean =>
    reference.pack === pack && (offsets === null || offsets.has(reference.offset));
  const vm = point.vm.name;
  const places: DamagedPlace[] = [];
  const { store, domain, keys } = repository;
  for (const { name, size, root } of point.disks) {
    const map = new ImageMap(new NodeReader({ store, domain, sealer: new FrameSealer(keys), signal }), { size, root });
    const ranges = new Ranges(size);
    for await (const { granule, reference } of map.granules(({ first, count }) => ranges.add(first, count)))
      if (hit(reference)) ranges.add(granule, 1);
    places.push(...ranges.found.map((range) => ({ vm, name, ...range })));
  }
  for (const { name, pieces } of point.captures) if (pieces.some(hit)) places.push({ vm, name, offset: null, length: null });
  return places;
}

/** Stretches of a disk, neighbours as one. */
class Ranges {
  readonly #size: number;
  readonly found: { offset: number; length: number }[] = [];

  constructor(size: number) {
    this.#size = size;
  }

  add(first: number, count: number): void {
    const offset = first * GRANULE;
    const length = Math.min(this.#size - offset, count * GRANULE);
    const last = this.found.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else if (length > 0) this.found.push({ offset, length });
  }
}

/** In brackets after a sentence; empty where there are none. */
function shownPlaces(places: readonly DamagedPlace[]): string {
  if (places.length === 0) return "";
  const texts = places.slice(0, 4).map(({ vm, name, offset, length }) => {
    return offset === null ? `${vm}: ${name}` : `${vm}: ${name} at ${offset}, ${formatBytes(length ?? 0)}`;
  });
  return ` (${texts.join("; ")}${places.length > 4 ? `; ${places.length - 4} more` : ""})`;
}
