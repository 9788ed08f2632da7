import { RepositoryError } from "./errors.ts";

/** Object keys, FORMAT.md §1. */
export const CONFIG = "config";
export const POINTS = "points/";
export const FORGOTTEN = "forgotten/";
export const HOLDS = "holds/";
export const HEADS = "heads/";
export const KEYS = "keys/";
export const SLOTS = "slots/";
export const DOMAINS = "domains/";
export const DESTROYED = "destroyed/";

export function slotAt(id: string): string {
  return `${SLOTS}${id}`;
}

/** The id in `slots/<id>`; null for anything else. */
export function parseSlotKey(key: string): string | null {
  return /^slots\/([0-9a-f]{16})$/.exec(key)?.[1] ?? null;
}

export const ROTATIONS = "rotations/";

export function rotationAt(number: number): string {
  return `${ROTATIONS}${String(number).padStart(4, "0")}`;
}

export function domainKeyAt(domain: string): string {
  return `${KEYS}${domain}`;
}

/** What a domain is called. */
export function domainNameAt(domain: string): string {
  return `${DOMAINS}${domain}`;
}

/** That a domain was destroyed, or is about to be. */
export function destroyedAt(domain: string): string {
  return `${DESTROYED}${domain}`;
}

/** The domain in `keys/<domain>`, `domains/<domain>` or `destroyed/<domain>`; null for anything else. */
export function parseDomainKey(key: string): string | null {
  return /^(?:keys|domains|destroyed)\/([0-9a-f]{8})$/.exec(key)?.[1] ?? null;
}

/** Prefix of a domain's packs. */
export function packsOf(domain: string): string {
  return `packs/${domain}/`;
}

export function packAt(domain: string, pack: string): string {
  return `${packsOf(domain)}${pack.slice(0, 2)}/${pack}`;
}

export function pointAt(vmId: string, seq: number): string {
  return `${POINTS}${vmId}/${seqDigits(seq)}`;
}

export function forgottenAt(vmId: string, seq: number): string {
  return `${FORGOTTEN}${vmId}/${seqDigits(seq)}`;
}

export function holdAt(vmId: string, seq: number): string {
  return `${HOLDS}${vmId}/${seqDigits(seq)}`;
}

export function headAt(vmId: string): string {
  return `${HEADS}${vmId}`;
}

export function hintsAt(domain: string): string {
  return `hints/${domain}`;
}

/** What the last check of a domain found damaged. */
export function damageAt(domain: string): string {
  return `damage/${domain}`;
}

/** Prefix of what prune found sparse. */
export function sparsesOf(domain: string): string {
  return `sparse/${domain}/`;
}

/** The packs of which little is needed, and that a machine's newest point needs. */
export function sparseAt(domain: string, vmId: string): string {
  return `${sparsesOf(domain)}${vmId}`;
}

/** Prefix of what images use of the packs: documents that prune keeps for itself. */
export function usagesOf(domain: string): string {
  return `usage/${domain}/`;
}

/** @param root of an image map: the same root is the same map */
export function usageAt(domain: string, { pack, offset }: { readonly pack: string; readonly offset: number }): string {
  return `${usagesOf(domain)}${pack}-${offset.toString(16).padStart(8, "0")}`;
}

/** Prefix of what prunes found unreferenced. */
export function marksOf(domain: string): string {
  return `prune/${domain}/`;
}

/** Until when what a domain's points need is locked. */
export function locksAt(domain: string): string {
  return `locks/${domain}`;
}

/** Prefix of what runs sent to the store. */
export function sumsOf(domain: string): string {
  return `sums/${domain}/`;
}

/** The checksums of the packs of a run. @param run 24 hex digits */
export function sumsAt(domain: string, run: string): string {
  return `${sumsOf(domain)}${run}`;
}

/** The id people type. */
export function pointId(vmId: string, seq: number): string {
  return `${vmId}-${seq}`;
}

/** Undoes `pointId`; rejects `point-unknown` for anything that cannot be one. */
export function parsePointId(id: string): { readonly vmId: string; readonly seq: number } {
  const match = /^([0-9a-f]{12})-([1-9][0-9]{0,9})$/.exec(id);
  if (match === null) throw unknownPoint(id);
  return { vmId: match[1] ?? "", seq: Number(match[2]) };
}

/** The id of the pack that lies at a key; null for anything else, as a pack of an ordinal that no run comes to (FORMAT.md §11). */
export function parsePackKey(key: string): string | null {
  const match = /^packs\/[0-9a-f]{8}\/([0-9a-f]{2})\/([0-9a-f]{24}00[0-3][0-9a-f]{5})$/.exec(key);
  return match?.[2]?.startsWith(match[1] ?? "") === true ? match[2] : null;
}

/** Reads `points/<vm id>/<seq>`, `forgotten/…` or `holds/…`; null for anything else. */
export function parsePointKey(key: string): { readonly vmId: string; readonly seq: number } | null {
  const match = /^(?:points|forgotten|holds)\/([0-9a-f]{12})\/((?!0{10})[0-9]{10})$/.exec(key);
  return match === null ? null : { vmId: match[1] ?? "", seq: Number(match[2]) };
}

export function unknownPoint(id: string): RepositoryError {
  return new RepositoryError("point-unknown", `There is no restore point ${id} in the repository`, {
    hint: "`thinstream points` lists what there is",
  });
}

function seqDigits(seq: number): string {
  return String(seq).padStart(10, "0");
}
