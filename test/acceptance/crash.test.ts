import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { skipWithout } from "../lab/index.ts";
import { levels, Vm } from "./vm.ts";
import { imageSteps, pauseAt, pullSteps, withoutGuest } from "./steps.ts";
import { World } from "./world.ts";

const skipped = skipWithout("host");
const signals = ["SIGKILL", "SIGTERM"] as const;

describe.skipIf(skipped)("killed at every step of a running machine's backup", () => {
  let world: World;
  let vm: Vm;
  let round = 1;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "64M" } });
    await vm.write("vda", "write -P 1 0 2M");
    await vm.take();
  });
  afterAll(async () => world?.stop());

  for (const signal of signals) {
    test.each(withoutGuest(pullSteps))(`A13 A29 D4 D12: ${signal} at %s`, async (step) => {
      round += 1;
      await vm.write("vda", `write -P ${round} ${round * 128}k 64k`, `write -z ${round * 8}k 8k`);
      const references = await vm.references();
      const before = (await world.points()).length;
      const killed = await pauseAt(world, { step, signal, args: ["backup", ...world.repo.flags, ...vm.flags(["--json"])] });
      const points = await world.points();
      const committed = pullSteps.indexOf(step) >= pullSteps.indexOf("committed");
      expect(points).toHaveLength(before + (committed ? 1 : 0));
      if (committed) {
        const point = points.at(-1)!;
        vm.add({ backup: { ...vm.taken[0]!.backup, point: point.id, level: point.level }, references, repo: world.repo });
      }
      if (signal === "SIGTERM") {
        expect([killed.code, killed.signal]).toEqual([committed ? 0 : 1, null]);
        await vm.expectTidy();
      } else expect(killed.signal).toBe("SIGKILL");
      await vm.write("vda", `write -P ${round + 100} ${round * 128 + 64}k 64k`);
      const next = await vm.take();
      expect(levels(next)).toEqual({ vda: "incremental" });
      await vm.expectTidy();
      await vm.expectRestores(vm.taken.slice(committed ? -2 : -1));
    });
  }

  test.each(["job-ended", "checkpoint-undone", "directory-removed"] as const)(
    "A29: SIGKILL at %s of a run that ends without a point",
    async (step) => {
      round += 1;
      await vm.write("vda", `write -P ${round} ${round * 128}k 64k`);
      await pauseAt(world, { step, signal: "SIGKILL", args: ["backup", ...world.repo.flags, ...vm.flags(["--estimate"])] });
      const next = await vm.take();
      expect(levels(next)).toEqual({ vda: "incremental" });
      await vm.expectTidy();
      await vm.expectRestores([next]);
    },
  );

  test("A29: after all of it the repository is whole and every point restores as it was", async () => {
    await world.expectClean();
    await vm.expectRestores(vm.taken.filter((_, i) => i % 7 === 0));
    expect((await world.points()).map(({ id }) => id)).toEqual(vm.taken.map(({ backup }) => backup.point));
  });
});

describe.skipIf(skipped)("killed at every step of a stopped machine's backup", () => {
  let world: World;
  let vm: Vm;
  let round = 1;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "64M" } });
    await vm.write("vda", "write -P 1 0 2M");
    await vm.take();
    await vm.domain.destroy();
  });
  afterAll(async () => world?.stop());

  for (const signal of signals) {
    test.each(imageSteps)(`A13 A29 D12: ${signal} at %s`, async (step) => {
      round += 1;
      await vm.write("vda", `write -P ${round} ${round * 128}k 64k`);
      await pauseAt(world, { step, signal, args: ["backup", ...world.repo.flags, ...vm.flags(["--json"])] });
      if (signal === "SIGTERM") expect(await vm.leftovers()).toEqual([]);
      await vm.write("vda", `write -P ${round + 100} ${round * 128 + 64}k 64k`);
      const next = await vm.take();
      expect(levels(next)).toEqual({ vda: "incremental" });
      expect(await vm.leftovers()).toEqual([]);
      await vm.expectRestores([next]);
    });
  }

  test("A29: the repository is whole, and online again it goes on", async () => {
    await vm.domain.start();
    await vm.write("vda", "write -P 7 60M 64k");
    expect(levels(await vm.take())).toEqual({ vda: "incremental" });
    await vm.expectTidy();
    await vm.expectRestores(vm.taken.slice(-1));
    await world.expectClean();
  });
});
