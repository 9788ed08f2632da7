/** Lines of a table: headings, then rows, every column as wide as its widest cell; numbers (cells that begin with a digit) to the right. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, i) => Math.max(heading.length, ...rows.map((row) => (row[i] ?? "").length)));
  const right = headings.map((_, i) => rows.length > 0 && rows.every((row) => /^(?:-|\d[\d.,]*(?: [A-Za-z/%]+)?)$/.test(row[i] ?? "")));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (right[i] === true ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(headings), ...rows.map(line)].join("\n");
}
