import { expect, test } from "vitest";
import { skipWithout } from "../lab/index.ts";
import { runSoak } from "./run-soak.ts";

const ROUNDS = 40;
const skipped = skipWithout("host");

test.skipIf(skipped)(
  `${ROUNDS} random rounds: every point restores as the disks were`,
  async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    console.log(`soak: seed ${seed}; the same again: npm run soak -- --rounds ${ROUNDS} --seed ${seed}`);
    const counts = await runSoak({ seed, rounds: ROUNDS, store: "file", flavour: "host", say: (text) => console.log(text) });
    expect(counts["points"]).toBeGreaterThan(ROUNDS / 2);
    expect(counts["verified"]).toBeGreaterThan(ROUNDS / 2);
  },
  600_000,
);
