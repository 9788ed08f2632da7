import { openLibvirtPull } from "../../src/agent/index.ts";
import { silentLogger } from "../../src/lib/logger.ts";

/*
 * One pull backup in a process of its own, killed at a step: `node run-once.ts '{"options": …, "killAt": "begun", "end": "commit"}'`.
 * Prints the checkpoint it would have committed before it ends.
 */
const { options, killAt, end } = JSON.parse(process.argv[2] ?? "{}") as { options: object; killAt: string; end: "commit" | "abort" };
const die = (step: string): void => {
  if (step === killAt) process.kill(process.pid, "SIGKILL");
};
const source = await openLibvirtPull({
  ...(options as Parameters<typeof openLibvirtPull>[0]),
  signal: new AbortController().signal,
  log: silentLogger,
  onStep: die,
});
const signal = new AbortController().signal;
for (const disk of source.disks) {
  for await (const { offset, length, state } of disk.extents(signal)) {
    if (state === "data") await disk.read([{ offset, into: new Uint8Array(length) }], signal);
  }
}
die("read");
process.stdout.write(`${source.disks[0]?.checkpoint ?? ""}\n`);
await (end === "commit" ? source.commit() : source.abort());
