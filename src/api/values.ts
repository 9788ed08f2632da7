import type { TString } from "typebox";
import { InvalidValueError } from "../lib/invalid-value.ts";
import { cronRule } from "./cron.ts";
import { type FieldOptions, type Rule, text } from "./schema.ts";

const durationPattern = /^(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?$/;

/** A span of time in Go's writing, of which hours, minutes and seconds are taken: `1h30m`. */
export function duration(description: string, [least, most]: readonly [string, string], options: FieldOptions = {}): TString {
  const rule: Rule = {
    rule: `self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && duration(self) >= duration('${least}') && duration(self) <= duration('${most}')`,
    message: `must be a duration from ${least} to ${most} in hours, minutes and seconds, such as 1h30m`,
  };
  return text(description, 24, { minLength: 2, rules: [rule], ...options });
}

/** Milliseconds of a duration that the API server let through. */
export function durationMs(written: string): number {
  const parts = durationPattern.exec(written);
  if (parts === null || written === "") throw new InvalidValueError(`"${written}" is not a duration in hours, minutes and seconds`);
  const [hours, minutes, seconds] = parts.slice(1).map((digits) => Number(digits ?? 0));
  return (((hours ?? 0) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0)) * 1000;
}

/** Bytes per second, as a Kubernetes quantity. A string alone: `kubectl explain` calls what may also be a number an Object. */
export function bandwidth(description: string): TString {
  const rule: Rule = {
    rule: "isQuantity(self) && quantity(self).compareTo(quantity('64Ki')) >= 0 && quantity(self).compareTo(quantity('1Ti')) <= 0",
    message: "must be bytes per second from 64Ki to 1Ti, such as 400Mi",
  };
  return text(description, 32, { minLength: 1, rules: [rule] });
}

const suffixes: Readonly<Record<string, number>> = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Whole bytes of a quantity, rounded up as Kubernetes does; null for what is none. */
export function parseQuantity(quantity: string): number | null {
  const [, digits, exponent, suffix] =
    /^\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:([eE][+-]?[0-9]{1,2})|([kMGTPE]|[KMGTPE]i|m)?)$/.exec(quantity) ?? [];
  return digits === undefined ? null : Math.ceil(Number(`${digits}${exponent ?? ""}`) * (suffixes[suffix ?? ""] ?? 1));
}

/** As `parseQuantity`. @throws InvalidValueError */
export function quantityBytes(quantity: string): number {
  const bytes = parseQuantity(quantity);
  if (bytes === null) throw new InvalidValueError(`"${quantity}" is not a quantity`);
  return bytes;
}

/** Bytes as a quantity, in the largest binary unit that has no fraction. */
export function formatQuantity(bytes: number): string {
  const unit = ["Ti", "Gi", "Mi", "Ki"].find((one) => bytes > 0 && bytes % (suffixes[one] ?? 1) === 0);
  return unit === undefined ? String(bytes) : `${bytes / (suffixes[unit] ?? 1)}${unit}`;
}

/** An IANA time zone: the API server looks it up in its own list. */
const timeZoneRule: Rule = {
  rule: "self.matches('^[A-Za-z]') && self != 'Local' && !self.contains(':') && timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0",
  message: "must be a time zone of the IANA database, such as UTC or Europe/Paris",
};

/** A zone that schedules are meant in. @param description without its default */
export function timeZone(description: string): TString {
  return text(`${description}, by its name in the IANA database. Default: UTC.`, 64, {
    minLength: 1,
    default: "UTC",
    rules: [timeZoneRule],
  });
}

/** @param description ends in a colon's stead: "When backups are made" */
export function schedule(description: string, otherwise: string): TString {
  const example = 'a cron expression of five fields, such as "15 2 * * *", or @hourly, @daily, @weekly, @monthly or @yearly';
  return text(`${description}: ${example}.${otherwise === "" ? "" : ` Default: ${otherwise}.`}`, 128, { minLength: 1, rules: [cronRule] });
}

/** The sentence of a union: `fields` of the object, exactly one of which is set. */
export function exactlyOne(fields: readonly string[]): Rule {
  return {
    rule: `[${fields.map((field) => `has(self.${field})`).join(", ")}].exists_one(set, set)`,
    message: `exactly one of ${fields.join(", ")} must be set`,
  };
}

/**
 * These fields of the object stay as they were made; those of `optional` that were not there stay away. (`self.?field == oldSelf.?field`
 * says it shorter, but has no bound that the API server knows of.)
 */
export function fixed({ always = [], optional = [] }: { always?: readonly string[]; optional?: readonly string[] }, message: string): Rule {
  const rules = [
    ...always.map(same),
    ...optional.map((field) => `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || ${same(field)})`),
  ];
  return { rule: rules.join(" && "), message };
}

function same(field: string): string {
  return `self.${field} == oldSelf.${field}`;
}

export const immutable: Rule = { rule: "self == oldSelf", message: "the spec cannot be changed: make a new object instead" };
