import { type Condition, type ConditionStatus, dropCondition, setCondition } from "../api/index.ts";

/** A condition as reconcilers say it. */
export interface Say {
  readonly type: string;
  readonly status: ConditionStatus;
  readonly reason: string;
  readonly message: string;
}

interface Conditioned {
  readonly metadata: { readonly generation?: number };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

/**
 * An object's conditions with these said, and kstatus's own two as they follow: `Reconciling` while there is work to be done, `Stalled` while somebody has
 * to act first, neither when all is well or done.
 */
export function conditionsAfter(
  object: Conditioned,
  sayings: readonly Say[],
  kstatus: "Reconciling" | "Stalled" | null,
  now: Date,
): Condition[] {
  const observed = { now, generation: object.metadata.generation ?? 0 };
  let conditions: readonly Condition[] = conditionsWith(object, sayings, now);
  const [first] = sayings;
  for (const type of ["Reconciling", "Stalled"] as const) {
    if (type !== kstatus || first === undefined) conditions = dropCondition(conditions, type);
    else {
      const reason = type === "Stalled" ? first.reason : "Progressing";
      conditions = setCondition(conditions, { type, status: "True", reason, message: first.message }, observed);
    }
  }
  return [...conditions];
}

/** An object's conditions with these said, and nothing else changed: for what does not decide whether all is well. */
export function conditionsWith(object: Conditioned, sayings: readonly Say[], now: Date): Condition[] {
  const observed = { now, generation: object.metadata.generation ?? 0 };
  let conditions: readonly Condition[] = object.status?.conditions ?? [];
  for (const say of sayings) conditions = setCondition(conditions, say, observed);
  return [...conditions];
}

export function conditionOf(object: Conditioned, type: string): Condition | undefined {
  return object.status?.conditions?.find((one) => one.type === type);
}

/** Whether a run has ended: its `Succeeded` is decided for good. */
export function isDone(object: Conditioned): boolean {
  const status = conditionOf(object, "Succeeded")?.status;
  return status === "True" || status === "False";
}
