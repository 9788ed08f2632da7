import type { ImageStep } from "../../src/agent/index.ts";
import { images } from "./images.ts";

/*
 * One backup of an image in a process of its own, killed at a step: `node image-once.ts DIR IMAGE STEP`.
 */
const [dir = "", image = "", killAt = ""] = process.argv.slice(2);
const die = (step: ImageStep): void => {
  if (step === killAt) process.kill(process.pid, "SIGKILL");
};
const source = await images(dir, [image], { onStep: die });
await source.commit();
