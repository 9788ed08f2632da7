import { shortHash } from "./naming/names.ts";

/** The name of a policy's run for a scheduled time: `<policy>-<machine>-<YYYYMMDDhhmm, UTC>`. The same run always has the same name. */
export function scheduledRunName(policy: string, machine: string, tick: Date): string {
  return runName(policy, machine, tick.toISOString().slice(0, 16).replace(/\D/g, ""));
}

/** The name of a policy's run for a manual trigger: `<policy>-<machine>-m<8 digits of the text's hash>`. */
export function triggeredRunName(policy: string, machine: string, trigger: string): string {
  return runName(policy, machine, `m${shortHash(trigger, 8)}`);
}

/**
 * A name that fits a label's value. Policy `a-b` with machine `c` would read like policy `a` with machine `b-c`, so a policy whose name has
 * a hyphen puts a hash of both between them and the time.
 */
function runName(policy: string, machine: string, suffix: string): string {
  const both = `${policy}-${machine}`;
  const room = 63 - suffix.length - 1;
  if (!policy.includes("-") && both.length <= room) return `${both}-${suffix}`;
  return `${both.slice(0, room - 9)}-${shortHash(`${policy}/${machine}`, 8)}-${suffix}`;
}
