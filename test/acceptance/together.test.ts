import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { skipWithout } from "../lab/index.ts";
import type { BackupJson, CliResult } from "../support/thinstream.ts";
import { pauseAt, type Step } from "./steps.ts";
import { levels, Vm } from "./vm.ts";
import { complaints, expectRefusal, type Repo, World } from "./world.ts";

const skipped = skipWithout("host");

describe.skipIf(skipped)("several backups at once", () => {
  let world: World;
  beforeAll(async () => (world = await World.start("host")));
  afterAll(async () => world?.stop());

  /** A backup that waits at a step while something else is done, and then goes on to its end. */
  async function meanwhile(vm: Vm, step: Step, act: () => Promise<void>): Promise<CliResult> {
    const args = ["backup", ...world.repo.flags, ...vm.flags(["--json"])];
    const go = async (_: unknown, steps: string): Promise<void> => {
      try {
        await act();
      } finally {
        rmSync(steps);
      }
    };
    return await pauseAt(world, { step, signal: go, args });
  }

  test.each(["begun", "disks-written", "committed"] as const)(
    "A4: a second backup of a machine is refused while the first is at %s, which ends as if alone",
    async (step) => {
      const vm = await Vm.start(world, { vda: { size: "32M" } });
      await vm.write("vda", "write -P 1 0 4M");
      await vm.take();
      await vm.write("vda", "write -P 2 1M 64k");
      const references = await vm.references();
      const first = await meanwhile(vm, step, async () => {
        expectRefusal(await vm.backup(), 1, new RegExp(`another backup of "${vm.name}" is running`));
        expectRefusal(await vm.backup(["--estimate"]), 1, /another backup/);
      });
      expect([first.code, complaints(first)]).toEqual([0, []]);
      vm.add({ backup: JSON.parse(first.stdout) as BackupJson, references, repo: world.repo });
      await vm.write("vda", "write -P 3 2M 64k");
      expect(levels(await vm.take())).toEqual({ vda: "incremental" });
      await vm.expectTidy();
      await vm.expectRestores();
    },
  );

  test("A4: a second backup of a stopped machine or a bare image is refused as well", async () => {
    const vm = new Vm(world);
    await vm.addDisk("vda", { size: "32M" });
    await vm.define();
    await vm.write("vda", "write -P 1 0 4M");
    const first = await meanwhile(vm, "disks-written", async () => expectRefusal(await vm.backup(), 1, /another backup/));
    expect(first.code).toBe(0);
    // Its images are read from under their lock: it cannot start before the backup ends, and can after it.
    const locked = await meanwhile(vm, "exported", async () => {
      await expect(world.lab.virsh("start", "--paused", vm.name)).rejects.toThrow(/lock/);
    });
    expect(locked.code).toBe(0);
    await vm.domain.start();
    expect(await vm.leftovers()).toEqual([]);
  });

  test("another program's backup job: refused in one line, and its job goes on", async () => {
    const vm = await Vm.start(world, { vda: { size: "32M" } });
    const xml = join(world.dir, "foreign.xml");
    const socket = join(world.dir, "foreign.sock");
    writeFileSync(
      xml,
      `<domainbackup mode='pull'><server transport='unix' socket='${socket}'/><disks><disk name='vda' type='file'><scratch file='${world.dir}/foreign.scratch'/></disk></disks></domainbackup>`,
    );
    await world.lab.virsh("backup-begin", vm.name, xml);
    const before = await world.points();
    expectRefusal(await vm.backup(), 1, /backup job of another program.*domjobabort/);
    expect(await world.points()).toEqual(before);
    expect(await world.lab.virsh("backup-dumpxml", vm.name)).toContain(socket);
    await world.lab.virsh("domjobabort", vm.name);
    expect(levels(await vm.take())).toEqual({ vda: "full" });
    await vm.expectTidy();
  });

  /** @returns how many points each machine has */
  async function twoAtOnce(repo: Repo): Promise<number[]> {
    const vms = await Promise.all([1, 2].map(async () => await Vm.start(world, { vda: { size: "64M" }, vdb: { size: "32M" } })));
    for (const round of [0, 1, 2]) {
      for (const [i, vm] of vms.entries()) {
        // The same golden content in both, and something of its own in each.
        await vm.write("vda", `write -P 7 ${round * 8}M 8M`, `write -P ${i + 10 * round + 30} ${40 + round}M 1M`);
        await vm.write("vdb", `write -P ${i + 1} ${round}M 64k`);
      }
      const taken = await Promise.all(vms.map(async (vm) => await vm.take({ repo })));
      expect(taken.map((one) => levels(one)["vda"])).toEqual(Array.from({ length: 2 }, () => (round === 0 ? "full" : "incremental")));
    }
    for (const vm of vms) await vm.expectTidy();
    for (const vm of vms) await vm.expectRestores();
    await world.expectClean(repo);
    const points = await world.points(repo);
    return vms.map(({ name }) => points.filter((point) => point.vm === name).length);
  }

  test("A37: two machines at once into one repository of files", async () => {
    expect(await twoAtOnce(world.repo)).toEqual([3, 3]);
  });

  test.skipIf(skipWithout("s3"))("A37 A38 D15: two machines at once into one bucket; no secret is said or stored anywhere", async () => {
    const repo = await world.s3Repo("both");
    expect(await twoAtOnce(repo)).toEqual([3, 3]);
    const key = readFileSync(repo.keyFile, "utf8").trim();
    const secrets = [repo.env["AWS_SECRET_ACCESS_KEY"] ?? "", ...key.split(/\s+/).filter((word) => word.length > 20)];
    expect(secrets.every((secret) => secret.length > 20)).toBe(true);
    const vm = await Vm.start(world, { vda: { size: "16M" } });
    let argv = "";
    const peek = async (child: ChildProcess): Promise<void> => {
      argv = readFileSync(`/proc/${child.pid}/cmdline`, "utf8");
      process.kill(child.pid ?? 0, "SIGTERM");
    };
    const runs = [
      await pauseAt(world, { step: "begun", signal: peek, args: ["backup", ...repo.flags, ...vm.flags(["--json"])], env: repo.env }),
      await vm.backup([], repo),
      await world.run("points", ["--json"], { repo }),
      await world.run("check", [], { repo }),
      await world.run("points", [], { repo, env: { AWS_SECRET_ACCESS_KEY: `${secrets[0]}x` } }),
    ];
    expect(argv).toContain(vm.name);
    expect(runs.map(({ code }) => code)).toEqual([1, 0, 0, 0, 1]);
    const said = [argv, ...runs.flatMap(({ stdout, stderr }) => [stdout, stderr])].join("\n");
    for (const secret of secrets) expect(said.includes(secret)).toBe(false);
    const { point } = (await world.json<{ points: { id: string }[] }>("points", [], repo)).points.map(({ id }) => ({ point: id })).at(-1)!;
    expect(JSON.stringify(await world.json("show", [point], repo))).not.toContain(secrets[0]);
    const files = readdirSync(world.repo.dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const fileKey = readFileSync(world.repo.keyFile, "utf8").trim().split(/\s+/).filter((word) => word.length > 20); // prettier-ignore
    for (const { parentPath, name } of files) {
      const bytes = readFileSync(join(parentPath, name));
      for (const secret of fileKey) expect(bytes.includes(secret)).toBe(false);
      expect(bytes.includes(vm.world.lab.dir)).toBe(false); // paths of images and XML are encrypted too
    }
  });
});
