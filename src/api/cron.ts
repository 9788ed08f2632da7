import type { Rule } from "./schema.ts";

const months = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
const days = "sun|mon|tue|wed|thu|fri|sat";

/** What may stand in each of the five fields. */
const fields = [
  field("[0-5]?[0-9]"),
  field("2[0-3]|[01]?[0-9]"),
  field("3[01]|[12][0-9]|0?[1-9]"),
  field(`1[0-2]|0?[1-9]|${months}`),
  field(`[0-7]|${days}`),
];

/** The macros of crontab(5), as the five fields they stand for. */
export const cronMacros: Readonly<Record<string, string>> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *",
};

/** RE2 and JavaScript read it alike; letter case is left to whoever uses it. */
export const cronPattern: string = `^${fields.join(" +")}$`;

export const cronRule: Rule = {
  rule: `self in [${Object.keys(cronMacros)
    .map((macro) => `'${macro}'`)
    .join(", ")}] || self.matches('(?i)${cronPattern}')`,
  message: `must be a cron expression of five fields (minute, hour, day of month, month, day of week), such as "15 2 * * *", or one of ${Object.keys(cronMacros).join(", ")}`,
};

/** A list of values, ranges and `*`, each with or without a step. */
function field(value: string): string {
  const one = `([*]|(${value})(-(${value}))?)(/[1-9][0-9]?)?`;
  return `${one}(,${one})*`;
}
