import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format, resolveConfig } from "prettier";
import { checkout, LabError } from "../lab/index.ts";
import { median, medianSeconds, type Series } from "./measure.ts";
import type { Profile } from "./profile.ts";
import { type Bar, met, readResults, type Results, type RowResult } from "./results.ts";
import { memoryBars } from "./rows/memory.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;

/** Writes docs/benchmarks.md from the last results and from `reading.md`, what a person has to say of them. */
export async function writePage(): Promise<void> {
  const results = readResults();
  if (results.rows.length === 0) throw new LabError("nothing was measured yet: npm run bench");
  const path = join(checkout(), "docs/benchmarks.md");
  const config = await resolveConfig(path);
  writeFileSync(path, await format(page(results), { ...config, parser: "markdown" }));
  console.log(`wrote ${path}`);
}

function page(results: Results): string {
  const { rows, profiles } = results;
  return [
    "# Benchmarks",
    "<!-- Written by `npm run bench -- --page` from .cache/bench/results.json and test/bench/reading.md: edit those. -->",
    readFileSync(join(checkout(), "test/bench/reading.md"), "utf8")
      .trim()
      .replace("{{bars}}", barsTable(rows))
      .replace("{{profiles}}", profiles.map(profileSection).join("\n\n")),
    "## The rows",
    ...rows.map(rowSection),
  ].join("\n\n");
}

function barsTable(rows: readonly RowResult[]): string {
  const bars = [...rows.flatMap(({ row, bars: own }) => own.map((bar) => ({ row: String(row), bar }))), ...memory(rows)];
  return markdownTable(
    ["row", "bar", "must be", "measured", ""],
    bars.map(({ row, bar }) => [row, bar.what, limit(bar), `${shown(bar)} ${bar.unit}`, met(bar) ? "met" : "**missed**"]),
  );
}

/** Only the largest: the rest is in the rows. */
function memory(rows: readonly RowResult[]): { readonly row: string; readonly bar: Bar }[] {
  const largest = memoryBars(rows).toSorted((a, b) => b.value - a.value)[0];
  return largest === undefined
    ? []
    : [{ row: "5", bar: { ...largest, what: `memory (RSS) of the largest run of ours (${largest.what})` } }];
}

function limit({ least, most, unit }: Bar): string {
  return least === undefined ? `≤ ${Math.round(most ?? 0)} ${unit}` : `≥ ${least} ${unit}`;
}

function shown({ value, unit }: Bar): string {
  return value.toFixed(unit === "×" ? 2 : 0);
}

function rowSection({ row, title, notes, series, machine }: RowResult): string {
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  const busy = Math.max(...series.flatMap(({ runs }) => runs.map((run) => run.busyBefore)));
  const facts = `${machine.time.slice(0, 10)}, commit ${machine.commit}; ${machine.processors} processors (${machine.processor}), ${(machine.memory / GiB).toFixed(0)} GiB, Linux ${machine.kernel}, ${machine.fileSystem}; ${versions.join(", ")}. At most ${Math.round(busy * 100)} % of the processors were busy with something else before a run.`;
  return [`### ${row}. ${title}`, facts, ...notes, seriesTable(series)].join("\n\n");
}

function seriesTable(series: readonly Series[]): string {
  const rows = series.map((one) => {
    const seconds = one.runs.map((run) => run.seconds);
    const cpu = median(one.runs.map((run) => run.userSeconds + run.systemSeconds));
    const rss = Math.max(...one.runs.map((run) => run.maxRss)) / MiB;
    const rate = one.bytes === 0 ? "" : (one.bytes / MiB / medianSeconds(one)).toFixed(0);
    return [
      one.name,
      String(one.runs.length),
      medianSeconds(one).toFixed(2),
      `${Math.min(...seconds).toFixed(2)} to ${Math.max(...seconds).toFixed(2)}`,
      rate,
      cpu.toFixed(2),
      rss.toFixed(0),
    ];
  });
  return markdownTable(["", "runs", "median s", "range s", "MiB/s", "processor s", "most RSS, MiB"], rows, 1);
}

function profileSection({ what, bytes, seconds, threads, stages }: Profile): string {
  const gib = bytes / GiB;
  const kinds = Object.entries(threads).filter(([, used]) => used / gib >= 0.005);
  const top = stages.filter((one) => one.seconds / gib >= 0.02);
  return [
    `#### ${what[0]?.toUpperCase() ?? ""}${what.slice(1)}: ${gib.toFixed(2)} GiB in ${seconds.toFixed(1)} s under the profiler`,
    markdownTable(
      ["threads", "processor s per GiB"],
      kinds.map(([kind, used]) => [kind, (used / gib).toFixed(2)]),
      1,
    ),
    markdownTable(
      ["thread", "stage", "s per GiB"],
      top.map((one) => [one.thread, one.stage, (one.seconds / gib).toFixed(2)]),
      2,
    ),
  ].join("\n\n");
}

/** @param numbers columns from here on are set to the right; none where it is left out */
function markdownTable(head: readonly string[], rows: readonly (readonly string[])[], numbers: number = head.length): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map((_, i) => (i >= numbers ? "--:" : "---"))), ...rows.map(line)].join("\n");
}
