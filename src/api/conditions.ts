export type ConditionStatus = "True" | "False" | "Unknown";

/** metav1.Condition. */
export interface Condition<T extends string = string, R extends string = string> {
  readonly type: T;
  readonly status: ConditionStatus;
  /** the `metadata.generation` it was said of */
  readonly observedGeneration?: number;
  /** RFC 3339, to the second: when `status` last changed */
  readonly lastTransitionTime: string;
  readonly reason: R;
  /** a sentence; says what to do where something is to be done */
  readonly message: string;
}

/** A kind's condition types, each with all the reasons it can have. */
export type Reasons = Readonly<Record<string, readonly string[]>>;

/** Every condition a kind can have, by its reasons. */
export type ConditionOf<R extends Reasons> = { [T in keyof R & string]: Condition<T, R[T][number]> }[keyof R & string];

/** A condition as a reconciler says it: when it came to be and of which generation is `setCondition`'s part. */
export type Saying<C extends Condition> = C extends Condition ? Pick<C, "type" | "status" | "reason" | "message"> : never;

export interface Observed {
  readonly now: Date;
  /** `metadata.generation` of the object the conditions are of */
  readonly generation: number;
}

/**
 * The conditions with this one set: in the place it had, else at the end. `lastTransitionTime` moves only when `status` does, and the very
 * same list comes back where nothing changed, so that nothing needs to be written.
 */
export function setCondition<C extends Condition>(
  conditions: readonly C[] | undefined,
  saying: Saying<C>,
  { now, generation }: Observed,
): readonly C[] {
  const before = conditions ?? [];
  const old = before.find(({ type }) => type === saying.type);
  const { type, status, reason, message } = saying;
  const lastTransitionTime = old?.status === status ? old.lastTransitionTime : rfc3339(now);
  const next = { type, status, observedGeneration: generation, lastTransitionTime, reason, message };
  if (old === undefined) return [...before, next as Condition as C];
  const same = old.status === status && old.reason === reason && old.message === message && old.observedGeneration === generation;
  return same ? before : before.map((one) => (one === old ? (next as Condition as C) : one));
}

/** The conditions without those of this type: kstatus reads a `Reconciling` or `Stalled` that is gone as false. */
export function dropCondition<C extends Condition>(conditions: readonly C[] | undefined, type: C["type"]): readonly C[] {
  const before = conditions ?? [];
  return before.some((one) => one.type === type) ? before.filter((one) => one.type !== type) : before;
}

export function findCondition<C extends Condition, T extends C["type"]>(
  conditions: readonly C[] | undefined,
  type: T,
): Extract<C, { type: T }> | undefined {
  return conditions?.find((one): one is Extract<C, { type: T }> => one.type === type);
}

/** Kubernetes writes times to the second, and so do messages. @param time such as `toISOString` gives it, or a Date */
export function rfc3339(time: Date | string): string {
  return (typeof time === "string" ? time : time.toISOString()).replace(/\.\d+Z$/, "Z");
}
