/** `npm run soak`: the randomized test at length. `--rounds N --seed N --store file|s3 --flavour host|trixie` */
import { parseArgs } from "node:util";
import { runSoak } from "./run-soak.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "500" },
    seed: { type: "string" },
    store: { type: "string", default: "file" },
    flavour: { type: "string", default: "host" },
    trace: { type: "boolean", default: false },
  },
});

function oneOf<T extends string>(value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new RangeError(`${value} is none of ${allowed.join(", ")}`);
  return found;
}

const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const options = {
  seed,
  rounds: Number(values.rounds),
  store: oneOf(values.store, ["file", "s3"]),
  flavour: oneOf(values.flavour, ["host", "trixie"]),
};
console.log(`soak: seed ${seed}, ${options.rounds} rounds, ${options.flavour}, ${options.store}`);
const started = performance.now();
try {
  const counts = await runSoak({
    ...options,
    say: (text) => console.log(text),
    ...(values.trace ? { trace: (text: string): void => console.log(text) } : {}),
  });
  for (const [what, count] of Object.entries(counts).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    console.log(`${String(count).padStart(7)}  ${what}`);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(
    `soak: seed ${seed}: ${options.rounds} rounds, ${counts["points"]} points, ${counts["verified"]} restores compared, no mismatch, ${seconds} s`,
  );
} catch (error) {
  console.error(`soak: FAILED: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
