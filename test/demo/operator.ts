/** The operator's story, start to end, on a real API server: a machine protected by a label, two scheduled runs, a restore that boots. */
import { errorText } from "../../src/lib/errors.ts";
import { table } from "../../src/cli/table.ts";
import { skipWithout } from "../lab/index.ts";
import { Stage } from "../story/stage.ts";
import { Teller } from "../story/teller.ts";
import { Tour } from "../story/tour.ts";

async function main(): Promise<void> {
  const teller = new Teller((text) => console.log(text));
  teller.step(
    "A cluster: etcd, Kubernetes' API server, controllers and scheduler, two nodes, KubeVirt's part played by the lab; an S3 server",
  );
  const stage = await Stage.start();
  try {
    const tour = new Tour(stage, teller);
    await tour.install();
    const machine = await tour.boot();
    await tour.protect();
    await tour.again(machine);
    await tour.compareGuests(machine, await tour.restoreCopy());
  } finally {
    await stage.stop();
  }
  const seconds = teller.times.reduce((sum, step) => sum + step.seconds, 0);
  console.log(`\n${table(["STEP", "SECONDS"], teller.times.map((step) => [step.title, step.seconds.toFixed(1)]))}`); // prettier-ignore
  console.log(`\nEverything was as it should be. ${seconds.toFixed(0)} s in all.`);
}

if (skipWithout("cluster", "trixie", "guest", "host", "s3")) {
  console.error("The demo needs all of these. `npm run demo:cli` shows backup and restore without a cluster.");
  process.exitCode = 1;
} else {
  try {
    await main();
  } catch (cause) {
    console.error(`\nThis is not as it should be: ${errorText(cause)}`);
    process.exitCode = 1;
  }
}
