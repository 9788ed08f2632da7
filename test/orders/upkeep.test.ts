import { randomBytes } from "node:crypto";
import { globSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import type { SucceededResult, WorkOrder } from "../../src/api/index.ts";
import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { formatKeyFile } from "../../src/repository/index.ts";
import { tempDir } from "../lab/index.ts";
import { KEY, newRepository, takeTwice } from "../repository/harness.ts";
import { succeeded } from "./ordered-vm.ts";
import { PlacedOrder } from "./placed-order.ts";

const KiB = 1024;

test("a prune says of which packs little is needed, and nothing of it where nobody can tell; a check says what it could not compare", async () => {
  const dir = tempDir("orders-upkeep");
  const at = join(dir, "repo");
  const place = { url: `file://${at}`, keyFile: join(dir, "key") };
  writeFileSync(place.keyFile, formatKeyFile(KEY), { mode: 0o600 });
  let orders = 0;
  const order = async (work: WorkOrder["work"]): Promise<SucceededResult> => {
    orders += 1;
    return succeeded(await (await PlacedOrder.place(join(dir, `order-${orders}`), work, { repository: place })).run());
  };

  const repository = await newRepository(new FsObjectStore(at));
  const { first, second } = await takeTwice(repository);
  const whole = await order({ type: "prune" });
  expect([whole.prune?.sparse, whole.message]).toEqual([{ packs: 0, bytes: 0, needless: 0 }, expect.not.stringContaining("30 %")]);

  await repository.catalog.forget(first.id);
  const time = new Date(Date.now() - 40 * 3_600_000);
  for (const file of globSync("**/*", { cwd: at })) utimesSync(join(at, file), time, time);
  const { prune, message } = await order({ type: "prune" });
  expect(prune).toMatchObject({ removedPoints: 1, unclear: 0, sparse: { packs: 1, bytes: expect.any(Number) } });
  const { bytes = 0, needless = 0 } = prune?.sparse ?? {};
  // All but one granule of eight, as random bytes are stored.
  expect([bytes > 512 * KiB, needless > 448 * KiB, needless < bytes]).toEqual([true, true, true]);
  expect(message).toMatch(/; 1 packs, .* KiB, are needed for less than 30 %, and hold .* KiB that nobody needs$/);

  // A directory keeps no checksums.
  const checked = await order({ type: "check", level: "checksum", samplePercent: 100 });
  expect(checked.check).toMatchObject({ level: "checksum", samplePercent: 100, bytesRead: 0, findings: 0 });
  const packs = checked.check?.packs ?? 0;
  expect([packs > 0, checked.check?.sums]).toEqual([true, { compared: 0, unrecorded: 0, unkept: packs }]);
  expect(checked.message).toMatch(
    /^no damage in 1 restore points .* packs, the checksums of 0 compared, nothing read; the store keeps no checksum of \d+, so that nothing was/,
  );

  await repository.store.put(`points/${second.id.slice(0, 12)}/0000000002`, randomBytes(99));
  const unclear = (await order({ type: "prune" })).prune;
  expect([unclear?.unclear, unclear?.sparse]).toEqual([1, undefined]);
  await repository.store.close();
}, 180_000);
