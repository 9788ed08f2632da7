import { InvalidValueError } from "./invalid-value.ts";

const steps = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

const multipliers: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["b", 1],
  ...["k", "m", "g", "t", "p"].flatMap((letter, index): [string, number][] => [
    [letter, 1024 ** (index + 1)],
    [`${letter}ib`, 1024 ** (index + 1)],
    [`${letter}b`, 1000 ** (index + 1)],
  ]),
]);

/** A size in bytes for people, in the largest binary unit that keeps it at 1 or more: `0 B`, `64 KiB`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= 1023.95 && step < steps.length - 1) {
    value /= 1024;
    step += 1;
  }
  const digits = step === 0 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, "")} ${steps[step] ?? "B"}`;
}

/**
 * The number of bytes a person wrote: `65536`, `64k`, `64 KiB`, `1.5GiB` (1024s) or `10MB` (1000s); case does not matter.
 * Throws `InvalidValueError` for anything else, and where the result is not a whole number of bytes JavaScript can hold.
 */
export function parseBytes(text: string): number {
  const match = /^(\d{1,16}(?:\.\d{1,9})?) ?([a-z]{0,3})$/i.exec(text.trim());
  const multiplier = multipliers.get(match?.[2]?.toLowerCase() ?? "");
  if (match?.[1] === undefined || multiplier === undefined) {
    throw new InvalidValueError(`"${text}" is not a size`, { hint: "write a number and a unit, such as 64KiB, 1.5GiB or 10MB" });
  }
  const bytes = Number(match[1]) * multiplier;
  if (!Number.isSafeInteger(bytes)) throw new InvalidValueError(`"${text}" is not a whole number of bytes below 8 PiB`);
  return bytes;
}
