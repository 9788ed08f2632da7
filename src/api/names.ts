import { createHash } from "node:crypto";
import { group } from "./kind.ts";
import { rfc3339 } from "./conditions.ts";

/** Labels and annotations, all of them. */
export const labels = {
  /** on a run: the policy that made it */
  policy: `${group}/policy`,
  /** on a restore point and on a run */
  repository: `${group}/repository`,
  /** on runs, restore points and agent pods: the virtual machine, by `labelValue` */
  vm: `${group}/vm`,
  /** on an agent pod: the run or restore it works for, by its metadata.uid */
  run: `${group}/run`,
  /** on a VirtualMachine, set by its owner: "false" keeps policies away from it */
  backup: `${group}/backup`,
} as const;

export const annotations = {
  /** on a run: the scheduled time it was made for */
  scheduledAt: `${group}/scheduled-at`,
  /** on a run: the manual trigger it was made for */
  trigger: `${group}/trigger`,
} as const;

/** On a RestorePoint whose deletion has to forget the point first. */
export const forgetFinalizer: string = `${group}/forget`;

const longest = 63;
const hashLength = 8;

/**
 * `<policy>-<vm>-<time>`: the run a policy makes for a virtual machine and a time, the same whoever asks and however often. Where a name is
 * cut, or its parts could be read in another way (`a-b` and `c`, `a` and `b-c`), a hash of policy and machine follows.
 */
export function scheduledRunName(policy: string, vm: string, tick: Date): string {
  return runName(policy, vm, stamp(tick));
}

/** `<policy>-<vm>-m<hash of the text>`: the run for a manual trigger. */
export function triggeredRunName(policy: string, vm: string, trigger: string): string {
  return runName(policy, vm, `m${hash(trigger)}`);
}

/** @param suffix a time, which ends in six digits, or `m` and a hash: so a name with a hash after it is never one without */
function runName(policy: string, vm: string, suffix: string): string {
  const plain = `${policy}-${vm}-${suffix}`;
  if (/^[a-z0-9]+$/.test(policy) && isLabel(plain)) return plain;
  return `${joined([policy, vm], longest - suffix.length - hashLength - 2)}-${suffix}-${hash(policy, vm)}`;
}

/** `<vm>-<time>-<hash of repository and point>`: the mirror of a point of the catalog. */
export function restorePointName(vm: string, time: Date, { repository, pointId }: { repository: string; pointId: string }): string {
  return `${joined([vm], longest - stampLength - hashLength - 2)}-${stamp(time)}-${hash(repository, vm, pointId)}`;
}

/** The value a label has for this name: the name itself where it fits. */
export function labelValue(name: string): string {
  if (name.length <= longest && /^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$/.test(name)) return name;
  return `${joined([name], longest - hashLength - 1)}-${hash(name)}`;
}

/** `20261121-021500`, UTC. */
function stamp(time: Date): string {
  return rfc3339(time)
    .replace("T", "-")
    .replace(/[^0-9-]/g, "")
    .replace(/^(\d+)-(\d+)-(\d+)/, "$1$2$3");
}
const stampLength = 15;

function isLabel(name: string): boolean {
  return name.length <= longest && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name);
}

/** The parts with dashes between them, each cut to its share of `room`; short ones leave theirs to the others. */
function joined(parts: readonly string[], room: number): string {
  let left = room - (parts.length - 1);
  const cut = new Map<number, string>();
  const byLength = parts.map((part, index) => ({ part: plainLetters(part), index })).toSorted((a, b) => a.part.length - b.part.length);
  byLength.forEach(({ part, index }, done) => {
    const kept = part.slice(0, Math.floor(left / (parts.length - done))).replace(/-+$/, "");
    cut.set(index, kept);
    left -= kept.length;
  });
  return parts.map((_, index) => cut.get(index)).join("-");
}

/** What of a name may stand in a label; `x` where nothing may. */
function plainLetters(name: string): string {
  return (
    name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "") || "x"
  );
}

/** Eight letters and digits of SHA-256: 40 bits. */
function hash(...parts: string[]): string {
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest();
  return [...digest.subarray(0, hashLength)].map((byte) => "0123456789abcdefghijkmnpqrstuvwx"[byte % 32]).join("");
}
