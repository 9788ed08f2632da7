import { rfc3339 } from "../../api/index.ts";

/** What is known of how well a machine is protected. */
export interface ProtectionFacts {
  /** `<namespace>/<name>` */
  readonly machine: string;
  /** When the newest Ready restore point was made; null: there is none. */
  readonly newestReady: Date | null;
  /** Null: the policy promises no age. */
  readonly rpoSeconds: number | null;
  /** When the machine came to be there, so that a new one has time for its first point. */
  readonly since: Date;
  /** Whether the repository's catalog could be read when this was last tried. */
  readonly isCatalogKnown: boolean;
}

export type ProtectedReason = "WithinRPO" | "RPOMissed" | "NeverBackedUp" | "NoRPO" | "NotReadYet";

/** The Protected condition of a machine. */
export interface Protection {
  readonly machine: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: ProtectedReason;
  readonly message: string;
  /** Whether the rpo is broken: a machine younger than it may still wait for its first point. */
  readonly breached: boolean;
  /** When time alone changes this; null: never. */
  readonly changesAt: Date | null;
}

/** Whether a machine has a restore point that is young enough. What is not known to be in the bucket protects nothing. */
export function protectionOf(facts: ProtectionFacts, now: Date): Protection {
  const { machine, newestReady, rpoSeconds } = facts;
  if (newestReady === null) return withoutPoint(facts, now);
  const rpo = (rpoSeconds ?? Infinity) * 1000;
  const age = Math.max(0, now.getTime() - newestReady.getTime());
  const found = `the newest restore point is of ${rfc3339(newestReady)}`;
  if (age > rpo) {
    const message = `${found}, ${lengthOf(age)} ago; the rpo is ${lengthOf(rpo)}. Look at the last VirtualMachineBackup of ${machine}`;
    return { machine, status: "False", reason: "RPOMissed", message, breached: true, changesAt: null };
  }
  const changesAt = rpoSeconds === null ? null : new Date(newestReady.getTime() + rpo + 1);
  const common = { machine, breached: false, changesAt };
  if (!facts.isCatalogKnown) {
    return {
      ...common,
      status: "Unknown",
      reason: "NotReadYet",
      message: `${found}, but the repository cannot be read to see that it is still there`,
    };
  }
  if (rpoSeconds === null)
    return { ...common, status: "Unknown", reason: "NoRPO", message: `${found}; the policy has no rpo to measure it by` };
  return { ...common, status: "True", reason: "WithinRPO", message: `${found}; the rpo is ${lengthOf(rpo)}` };
}

function withoutPoint({ machine, rpoSeconds, since, isCatalogKnown }: ProtectionFacts, now: Date): Protection {
  const due = rpoSeconds === null ? Infinity : since.getTime() + rpoSeconds * 1000;
  const common = { machine, changesAt: now.getTime() <= due && Number.isFinite(due) ? new Date(due + 1) : null };
  if (!isCatalogKnown) {
    const message = `the repository cannot be read to see whether ${machine} has a restore point`;
    return { ...common, status: "Unknown", reason: "NotReadYet", message, breached: false };
  }
  return {
    ...common,
    status: "False",
    reason: "NeverBackedUp",
    message: `${machine} has no restore point that is ready`,
    breached: now.getTime() > due,
  };
}

export type PolicyProtectedReason = Exclude<ProtectedReason, "NeverBackedUp"> | "NotBackedUp" | "NothingSelected";

/** The Protected condition of a policy. */
export interface PolicyProtection {
  readonly status: "True" | "False" | "Unknown";
  readonly reason: PolicyProtectedReason;
  readonly message: string;
  readonly matched: number;
  readonly protected: number;
  /** Those that are not, by name. */
  readonly unprotected: readonly Protection[];
  readonly changesAt: Date | null;
}

/** A policy is as protected as the least of its machines. */
export function policyProtection(machines: readonly Protection[]): PolicyProtection {
  const by = (status: Protection["status"]): readonly Protection[] => machines.filter((one) => one.status === status);
  const unprotected = by("False").toSorted((a, b) => (a.machine < b.machine ? -1 : 1));
  const changes = machines.map(({ changesAt }) => changesAt?.getTime() ?? Infinity).reduce((a, b) => Math.min(a, b), Infinity);
  const common = {
    matched: machines.length,
    protected: by("True").length,
    unprotected,
    changesAt: Number.isFinite(changes) ? new Date(changes) : null,
  };
  const share = `${common.protected} of ${machines.length} virtual machines are protected`;
  if (machines.length === 0) {
    return {
      ...common,
      status: "Unknown",
      reason: "NothingSelected",
      message: "no virtual machine is selected: look at selector and namespaces",
    };
  }
  if (unprotected.length > 0)
    return { ...common, status: "False", reason: worstOf(unprotected), message: `${share}; not ${namesOf(unprotected)}` };
  if (common.protected < machines.length) {
    const unknown = by("Unknown");
    return {
      ...common,
      status: "Unknown",
      reason: worstOf(unknown),
      message: `${share}; not known of ${namesOf(unknown)}: ${unknown[0]?.message}`,
    };
  }
  return { ...common, status: "True", reason: "WithinRPO", message: share };
}

/** The reason that stands for several: a point that is too old tells more than one that never was. */
function worstOf(machines: readonly Protection[]): Exclude<PolicyProtectedReason, "WithinRPO" | "NothingSelected"> {
  const has = (reason: ProtectedReason): boolean => machines.some((one) => one.reason === reason);
  if (has("RPOMissed")) return "RPOMissed";
  if (has("NeverBackedUp")) return "NotBackedUp";
  return has("NotReadYet") ? "NotReadYet" : "NoRPO";
}

function namesOf(machines: readonly Protection[]): string {
  const names = machines.slice(0, 5).map(({ machine }) => machine);
  return machines.length > 5 ? `${names.join(", ")} and ${machines.length - 5} more` : names.join(", ");
}

/** A stretch of time for people, in its two largest units: `1 d 2 h`, `26 min`. */
function lengthOf(milliseconds: number): string {
  const units: readonly [string, number][] = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1000],
  ];
  let rest = milliseconds;
  const parts = units.flatMap(([unit, size]): [number, string][] => {
    const count = Math.floor(rest / size);
    rest -= count * size;
    return [[count, unit]];
  });
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}
