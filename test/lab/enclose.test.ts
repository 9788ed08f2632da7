import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checkout, run, skipWithout } from "./index.ts";

const SCRIPT = join(checkout(), "test/e2e/enclose.sh");

describe.skipIf(skipWithout("host"))("the machine of its own that npm run e2e makes", () => {
  test("has a network, mounts and processes of its own, and ends as its command does", async () => {
    const probe = "ip route | cut -d ' ' -f 1-3; ls /var/tmp /var/log /dev/shm | grep -c tsl-; echo $$; exit 7";
    await expect(run("sh", [SCRIPT, "sh", "-c", probe])).rejects.toThrow(/: 10\.98\.0\.0\/24 dev cni0\n0\n\d\d?$/);
  });

  test.each(["SIGTERM", "SIGHUP", "SIGKILL"] as const)("%s takes it away, at the latest with the next one", async (signal) => {
    const mark = `6${randomInt(1e9)}`;
    const script = spawn("setpriv", ["--pdeathsig", "TERM", "--", "sh", SCRIPT, "sleep", mark], { stdio: "ignore" });
    const exit = once(script, "exit");
    await expect.poll(() => sleeping(mark), { timeout: 30_000 }).toBe(true);
    expect(traces(script.pid)).not.toEqual([]);
    script.kill(signal);
    await exit;
    await expect.poll(() => sleeping(mark), { timeout: 30_000 }).toBe(false);
    if (signal === "SIGKILL") await run("sh", [SCRIPT, "true"]);
    expect(traces(script.pid)).toEqual([]);
  });
});

function traces(pid: number | undefined): readonly string[] {
  const dir = join(checkout(), `.cache/e2e/${pid}`);
  return [...globSync(`/sys/fs/cgroup/{,*/}thinstream-e2e-${pid}`), ...(existsSync(dir) ? [dir] : [])];
}

function sleeping(mark: string): boolean {
  return readdirSync("/proc").some((entry) => {
    try {
      return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/cmdline`, "utf8") === `sleep\0${mark}\0`;
    } catch {
      return false; // ended while we looked
    }
  });
}
