import { formatBytes } from "../../lib/bytes.ts";
import { type Examination, examineStore, type Figures, type Finding, isUsable } from "../../objectstore/index.ts";
import { type Context, type Outcome, withStore } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { trialsOf } from "../open-store.ts";
import { ProgressDisplay } from "../progress.ts";
import { table } from "../table.ts";

export interface StoreTestFlags {
  readonly url: string;
}

const said = { ok: "ok", missing: "missing", "not-allowed": "not allowed", wrong: "WRONG" } as const;

/** `thinstream store-test`: what a store can and cannot do, line by line, and whether a repository can be kept in it. */
export async function storeTest({ url }: StoreTestFlags, context: Context): Promise<Outcome> {
  return await withStore(url, context, async (store) => {
    const trials = trialsOf(url);
    const display = new ProgressDisplay(`Testing ${store.url}`);
    let done = 0;
    const onFinding = (_finding: Finding, total: number): void => display.update({ done: ++done, total, bytes: null });
    try {
      const examination = await examineStore(store, trials, { signal: context.signal, onFinding });
      const usable = isUsable(examination);
      return {
        json: { url: store.url, usable, ...examination },
        text: textOf(store.url, examination, usable),
        exitCode: usable ? ExitCode.ok : ExitCode.failed,
      };
    } finally {
      display.end();
      await trials.close();
    }
  });
}

function textOf(url: string, { findings, figures, leftovers }: Examination, usable: boolean): string {
  const rows = findings.map(({ check, need, state, detail, means }) => [
    check,
    said[state],
    need,
    detail === "" ? means : `${means} (${detail})`,
  ]);
  const lacking = findings.filter(({ need, state }) => need === "required" && state !== "ok").map(({ check }) => check);
  return [
    table(["CHECK", "RESULT", "NEED", "MEANS"], rows),
    "",
    speed(figures),
    ...leftovers.map(({ prefix, objects, reason }) => `Left behind: ${objects ?? "perhaps"} objects below ${prefix}: ${reason}`),
    usable ? `A repository can be kept at ${url}` : `No repository can be kept at ${url}: ${lacking.join(", ")}`,
  ].join("\n");
}

function speed({ putLatency, getLatency, upload, download }: Figures): string {
  const latencies = `4 KiB written in ${ms(putLatency)}, read in ${ms(getLatency)} (medians)`;
  return `${latencies}; 64 MiB up at ${rate(upload)}, down at ${rate(download)}, one at a time`;
}

function ms(value: number | null): string {
  return value === null ? "?" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

function rate(value: number | null): string {
  return value === null ? "?" : `${formatBytes(Math.round(value))}/s`;
}
