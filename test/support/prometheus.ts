/** A family of Prometheus' text format 0.0.4. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: readonly ParsedSample[];
}

export interface ParsedSample {
  /** that of the family, or with `_bucket`, `_sum`, `_count` */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/;
const NUMBER = /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]Inf|NaN)$/i;
const TYPES: Readonly<Record<string, readonly string[]>> = {
  counter: [""],
  gauge: [""],
  untyped: [""],
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"],
};

/** Reads a scrape as strictly as Prometheus' own linter would. Throws for whatever is amiss: a family without help or type, a bad name, a double. */
export function parseMetrics(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line does not end");
  const families = new Map<string, Family & { readonly samples: ParsedSample[] }>();
  const seen = new Set<string>();
  let help: { readonly name: string; readonly text: string } | null = null;
  let current: (Family & { readonly samples: ParsedSample[] }) | null = null;
  for (const line of text.split("\n").filter((one) => one !== "")) {
    const [, kind, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind === "HELP") {
      if (!NAME.test(name) || rest.trim() === "" || help !== null) throw new Error(`bad HELP: ${line}`);
      help = { name, text: rest };
    } else if (kind === "TYPE") {
      if (help?.name !== name || TYPES[rest] === undefined || families.has(name)) throw new Error(`bad TYPE: ${line}`);
      if (rest === "counter" && !name.endsWith("_total")) throw new Error(`a counter's name ends in _total: ${name}`);
      current = { name, help: help.text, type: rest, samples: [] };
      families.set(name, current);
      help = null;
    } else {
      const sample = sampleOf(line);
      const suffixes = TYPES[current?.type ?? ""] ?? [];
      if (current === null || !suffixes.some((suffix) => sample.name === current?.name + suffix)) throw new Error(`stray sample: ${line}`);
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).toSorted(([a], [b]) => (a < b ? -1 : 1))]);
      if (seen.has(key)) throw new Error(`told twice: ${line}`);
      seen.add(key);
      current.samples.push(sample);
    }
  }
  return families;
}

function sampleOf(line: string): ParsedSample {
  const [, name = "", , labelText = "", value = ""] = /^([^\s{]+)(\{(.*)\})? (\S+)$/.exec(line) ?? [];
  if (!NAME.test(name) || !NUMBER.test(value)) throw new Error(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  let rest = labelText;
  while (rest !== "") {
    const [all = "", label = "", quoted = ""] = /^([^=]+)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/.exec(rest) ?? [];
    if (!LABEL.test(label) || Object.hasOwn(labels, label)) throw new Error(`bad label: ${line}`);
    labels[label] = quoted.replaceAll(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char));
    rest = rest.slice(all.length);
  }
  return { name, labels, value: Number(value.replace("Inf", "Infinity")) };
}

/** The value of the one sample with these labels; undefined where there is none. */
export function valueOf(
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const wanted = Object.entries(labels);
  return families
    .get(name)
    ?.samples.find(
      (sample) => Object.keys(sample.labels).length === wanted.length && wanted.every(([key, value]) => sample.labels[key] === value),
    )?.value;
}
