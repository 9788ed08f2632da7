/** Measures the rows, one after the other, and keeps each as soon as it is there. See run.mjs for the flags. */
import { parseArgs } from "node:util";
import { table } from "../../src/cli/table.ts";
import { LabError } from "../lab/index.ts";
import { machineFacts } from "./machine.ts";
import { median, medianSeconds, say, type Series } from "./measure.ts";
import { writePage } from "./page.ts";
import { measureProfiles } from "./profile.ts";
import { type Bar, keepProfiles, keepRow, met, readResults, type RowResult } from "./results.ts";
import { fullRow } from "./rows/full.ts";
import { incrementalRow } from "./rows/incremental.ts";
import { latencyRow } from "./rows/latency.ts";
import { memoryBars } from "./rows/memory.ts";
import { restoreRow } from "./rows/restore.ts";
import { type Measured, World } from "./rows/world.ts";

const ROWS: ReadonlyMap<number, (world: World) => Promise<Measured>> = new Map([
  [1, fullRow],
  [2, incrementalRow],
  [3, restoreRow],
  [4, latencyRow],
]);
const MiB = 2 ** 20;

interface Flags {
  readonly rows: readonly number[];
  readonly runs: number;
  /** bytes */
  readonly size: number;
  readonly profile: boolean;
  readonly page: boolean;
}

function flags(): Flags {
  const { values } = parseArgs({
    options: {
      row: { type: "string", multiple: true },
      runs: { type: "string", default: "5" },
      size: { type: "string", default: "5" },
      profile: { type: "boolean", default: false },
      page: { type: "boolean", default: false },
    },
  });
  const rows = (values.row ?? [...ROWS.keys()].map(String)).map(Number);
  const unknown = rows.find((row) => !ROWS.has(row));
  if (unknown !== undefined)
    throw new LabError(`there is no row ${unknown} to measure: ${[...ROWS.keys()].join(", ")} (row 5, memory, comes with each of them)`);
  const [runs, gib] = [Number(values.runs), Number(values.size)];
  if (!Number.isInteger(runs) || runs < 1) throw new LabError("--runs takes a number from 1 on");
  if (!(gib >= 0.25 && gib <= 1024)) throw new LabError("--size takes GiB, from 0.25 on");
  return { rows, runs, size: Math.round(gib * 16) * 2 ** 26, profile: values.profile, page: values.page };
}

async function main({ rows, runs, size, profile, page }: Flags): Promise<void> {
  if (page) return await writePage();
  const world = await World.start(runs, size);
  try {
    const machine = await machineFacts(world.lab);
    say(`${machine.processor}, ${machine.processors} processors; ${machine.fileSystem}; ${JSON.stringify(machine.versions)}`);
    if (profile) return keepProfiles(await measureProfiles(world));
    for (const row of rows) {
      const measured = await (ROWS.get(row) as (world: World) => Promise<Measured>)(world);
      const result: RowResult = { row, ...measured, machine };
      keepRow(result);
      show(result);
    }
    console.log(`\n${barTable("5. Memory: the most of any run", memoryBars(readResults().rows))}`);
    say("All of it is in .cache/bench/results.json; `npm run bench -- --page` writes docs/benchmarks.md from it");
  } finally {
    await world.stop();
  }
}

function show({ row, title, series, bars }: RowResult): void {
  const cells = series.map((one) => [one.name, medianSeconds(one).toFixed(2), range(one), rate(one), cpu(one), memory(one)]);
  console.log(`\n${row}. ${title}\n${table(["", "MEDIAN S", "RANGE", "MIB/S", "CPU S", "RSS MIB"], cells)}`);
  console.log(`\n${barTable("BAR", bars)}\n`);
}

function barTable(heading: string, bars: readonly Bar[]): string {
  const rows = bars.map((bar) => [
    bar.what,
    `${bar.value.toFixed(bar.unit === "×" ? 2 : 0)} ${bar.unit}`,
    limit(bar),
    met(bar) ? "met" : "MISSED",
  ]);
  return table([heading, "MEASURED", "MUST BE", ""], rows);
}

function limit(bar: Bar): string {
  return bar.least === undefined ? `at most ${Math.round(bar.most ?? 0)} ${bar.unit}` : `at least ${bar.least} ${bar.unit}`;
}

function range({ runs }: Series): string {
  const seconds = runs.map((run) => run.seconds);
  return `${Math.min(...seconds).toFixed(2)}-${Math.max(...seconds).toFixed(2)}`;
}

function rate(series: Series): string {
  return series.bytes === 0 ? "-" : String(Math.round(series.bytes / MiB / medianSeconds(series)));
}

function cpu({ runs }: Series): string {
  return median(runs.map((run) => run.userSeconds + run.systemSeconds)).toFixed(2);
}

function memory({ runs }: Series): string {
  return String(Math.round(Math.max(...runs.map((run) => run.maxRss)) / MiB));
}

try {
  await main(flags());
} catch (thrown) {
  if (!(thrown instanceof LabError) && !(thrown instanceof TypeError && "code" in thrown)) throw thrown;
  console.error(`bench: ${thrown.message}`);
  process.exitCode = 1;
}
