import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

import {
  compareRaw,
  createImage,
  defineDomain,
  rawCopy,
  run,
  skipWithout,
  snapshot,
  startLibvirt,
  tempDir,
  writeAsGuest,
} from "../lab/index.ts";

const root = join(import.meta.dirname, "..", "..");
const stops: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const stop of stops) await stop();
});

/** The commands of the README's tour, with this test's places instead of the reader's. */
function tour(places: Readonly<Record<string, string>>): string {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const block = /```sh\n(export AWS_ACCESS_KEY_ID[^`]*)```/.exec(readme)?.[1] ?? "";
  expect(block).toContain("thinstream backup");
  return Object.entries(places).reduce((text, [from, to]) => {
    expect(text, `the README's tour has no ${from} any more`).toContain(from);
    return text.replaceAll(from, to);
  }, block);
}

describe.skipIf(skipWithout("host"))("the README's tour", () => {
  test("works as it stands, on a real machine, and what it restores is what was there", async () => {
    const lab = await startLibvirt("host");
    stops.push(async () => await lab.stop());
    const path = await createImage(join(lab.dir, "web1.qcow2"), { size: "256M" });
    const domain = await defineDomain(lab, { name: "web1", disks: [{ name: "vda", path, format: "qcow2" }] });
    await domain.start();
    await writeAsGuest(domain, "vda", "write -P 0x5a 1M 20M");
    const dir = tempDir("readme");
    const script = tour({
      "s3://backups/lab?endpoint=http://minio.example:9000&region=us-east-1": `file://${dir}/repository`,
      "qemu:///system": lab.uri,
      "/var/tmp/web1": `${dir}/restored`,
      "~/thinstream.key": `${dir}/thinstream.key`,
    });
    const said = await run("bash", ["-euc", `thinstream() { sh "${root}/src/cli/thinstream.sh" "$@"; }\n${script}`]);
    expect(said).toMatch(/incremental/);
    expect(said).toMatch(/No damage/);
    expect(existsSync(join(dir, "thinstream.key"))).toBe(true);
    expect(await compareRaw(await rawCopy(join(dir, "restored/vda.qcow2")), await snapshot(domain, "vda"))).toBeUndefined();
  });
});
