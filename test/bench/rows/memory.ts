import type { Bar, RowResult } from "../results.ts";

const MiB = 2 ** 20;

/** Row 5: the most memory that any of our processes in the other rows had. */
export function memoryBars(rows: readonly RowResult[]): Bar[] {
  const ours = rows.flatMap(({ row, series }) =>
    series.filter(({ name }) => name.startsWith("thinstream")).map((one) => ({ row, ...one })),
  );
  return ours.map(({ row, name, runs }) => ({
    what: `row ${row}: ${name}`,
    value: Math.max(...runs.map((run) => run.maxRss)) / MiB,
    unit: "MiB",
    most: 300,
  }));
}
