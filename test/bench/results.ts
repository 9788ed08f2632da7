import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { checkout } from "../lab/index.ts";
import type { MachineFacts } from "./machine.ts";
import type { Series } from "./measure.ts";
import type { Profile } from "./profile.ts";

/** A promise of the design and what came of it. */
export interface Bar {
  readonly what: string;
  readonly value: number;
  readonly unit: "×" | "%" | "MiB";
  /** `value` must be at least, or at most, so much */
  readonly least?: number;
  readonly most?: number;
}

/** One row of the benchmark as it was measured. */
export interface RowResult {
  readonly row: number;
  readonly title: string;
  /** what exactly was measured, one sentence each */
  readonly notes: readonly string[];
  readonly series: readonly Series[];
  readonly bars: readonly Bar[];
  /** when, on what, of which commit */
  readonly machine: MachineFacts;
}

export interface Results {
  readonly rows: readonly RowResult[];
  readonly profiles: readonly Profile[];
}

export function met(bar: Bar): boolean {
  return bar.value >= (bar.least ?? -Infinity) && bar.value <= (bar.most ?? Infinity);
}

const file = join(checkout(), ".cache/bench/results.json");

/** What was measured last; empty where nothing was. */
export function readResults(): Results {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Results;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return { rows: [], profiles: [] };
    throw cause;
  }
}

/** Takes the place of what was measured before of the same row. */
export function keepRow(row: RowResult): void {
  const { rows, profiles } = readResults();
  write({ rows: [...rows.filter((other) => other.row !== row.row), row].toSorted((a, b) => a.row - b.row), profiles });
}

export function keepProfiles(profiles: readonly Profile[]): void {
  write({ ...readResults(), profiles });
}

function write(results: Results): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.partial`, `${JSON.stringify(results, null, 2)}\n`);
  renameSync(`${file}.partial`, file);
}
