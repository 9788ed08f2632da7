/** The main job, start to end, on a real virtual machine: three restore points of a guest that writes, each restored and compared, the last one booted. */
import { statSync } from "node:fs";
import { join } from "node:path";

import { formatBytes } from "../../src/lib/bytes.ts";
import {
  compareRaw,
  createImage,
  defineDomain,
  GuestConsole,
  type LabDomain,
  type LibvirtLab,
  skipWithout,
  snapshot,
  startLibvirt,
  startS3,
  tempDir,
} from "../lab/index.ts";
import { type BackupJson, type RestoreJson, thinstream, thinstreamJson } from "../support/thinstream.ts";
import { table } from "../../src/cli/table.ts";

const started = performance.now();
const dir = tempDir("demo");

interface Taken {
  readonly what: string;
  readonly backup: BackupJson;
  readonly seconds: number;
  /** the disk as it was, raw */
  readonly reference: string;
  readonly restored?: string;
}

function say(text: string): void {
  console.log(`[${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s] ${text}`);
}

async function repository(): Promise<{
  readonly flags: string[];
  readonly env: NodeJS.ProcessEnv;
  readonly stop: () => Promise<void>;
  readonly where: string;
}> {
  const key = ["--key-file", join(dir, "demo.key")];
  if (skipWithout("s3")) {
    say("The S3 server is not there (see above); the repository goes into a directory instead");
    return { flags: ["--repo", `file://${join(dir, "repository")}`, ...key], env: {}, stop: async () => undefined, where: "a directory" };
  }
  const s3 = await startS3({ bucket: "demo" });
  return {
    flags: ["--repo", s3.url("vms"), ...key],
    env: s3.env,
    stop: async () => await s3.stop(),
    where: `an S3 bucket at ${s3.endpoint}`,
  };
}

/** Takes a point of the machine while its clock stands, so that there is a disk to compare with. */
async function take(domain: LabDomain, what: string, repo: { readonly flags: string[]; readonly env: NodeJS.ProcessEnv }): Promise<Taken> {
  await domain.guest.sh("sync");
  await domain.lab.virsh("suspend", domain.name);
  const reference = await snapshot(domain, "vda", join(dir, `reference-${what.replace(/\W+/g, "-")}.raw`));
  const before = performance.now();
  const backup = await thinstreamJson<BackupJson>(["backup", ...repo.flags, "--connect", domain.lab.uri, "--domain", domain.name], {
    env: repo.env,
  });
  const seconds = (performance.now() - before) / 1000;
  await domain.lab.virsh("resume", domain.name);
  say(`${what}: point ${backup.point} (${backup.level}) in ${seconds.toFixed(1)} s`);
  return { what, backup, seconds, reference };
}

async function restoreAll(taken: readonly Taken[], repo: { readonly flags: string[]; readonly env: NodeJS.ProcessEnv }): Promise<void> {
  for (const { what, backup, reference } of taken) {
    const output = join(dir, backup.point);
    const before = performance.now();
    const { disks } = await thinstreamJson<RestoreJson>(["restore", ...repo.flags, "--point", backup.point, "--output", output], {
      env: repo.env,
    });
    const path = disks[0]?.path ?? "";
    const difference = await compareRaw(path, reference);
    if (difference !== undefined) throw new Error(`${backup.point} did not restore as the disk was: ${difference}`);
    const kept = statSync(path).blocks * 512;
    say(
      `Restored ${backup.point} (${what}) in ${((performance.now() - before) / 1000).toFixed(1)} s: identical to the disk as it was, ${formatBytes(kept)} on disk`,
    );
  }
}

async function bootCopy(lab: LibvirtLab, last: Taken, repo: { readonly flags: string[]; readonly env: NodeJS.ProcessEnv }): Promise<void> {
  const args = [
    "restore",
    ...repo.flags,
    "--point",
    last.backup.point,
    "--output",
    join(dir, "copy"),
    "--format",
    "qcow2",
    "--define",
    "--connect",
    lab.uri,
    "--name",
    "demo-copy",
  ];
  const { domain } = await thinstreamJson<RestoreJson>(args, { env: repo.env });
  await lab.virsh("start", "demo-copy");
  const serial =
    /<serial type=['"]unix['"]>\s*<source mode=['"]bind['"] path=['"]([^'"]+)/.exec(await lab.virsh("dumpxml", "demo-copy"))?.[1] ?? "";
  const guest = await GuestConsole.connect(serial);
  const files = (await guest.sh("ls /data")).trim().split(/\s+/);
  guest.close();
  await lab.virsh("destroy", "demo-copy");
  say(`Booted the restored machine ${domain?.name} (${domain?.uuid}); it sees ${files.filter((name) => name !== "lost+found").join(", ")}`);
}

async function main(): Promise<void> {
  const flavour = skipWithout("trixie") ? "host" : "trixie";
  const lab = await startLibvirt(flavour);
  const repo = await repository();
  try {
    say(`libvirt ${lab.versions.libvirt}, QEMU ${lab.versions.qemu}; repository in ${repo.where}, encrypted`);
    await thinstreamJson(["init", ...repo.flags], { env: repo.env });
    const path = await createImage(join(lab.dir, "demo.qcow2"), { size: "2G" });
    const domain = await defineDomain(lab, { name: "demo", guest: true, disks: [{ name: "vda", path, format: "qcow2" }] });
    await domain.start();
    say("The guest is up");
    await domain.guest.sh(
      "dd if=/dev/urandom of=/data/random bs=1M count=200 2>/dev/null; cp /bin/busybox /data/; for i in $(seq 1 500); do echo line $i of a log >> /data/log; done",
    );
    const full = await take(domain, "First backup", repo);
    await domain.guest.sh("dd if=/dev/urandom of=/data/random bs=64k count=64 seek=700 conv=notrunc 2>/dev/null; echo hello > /data/hello");
    const first = await take(domain, "After some writes", repo);
    await domain.guest.sh(
      "dd if=/dev/zero of=/data/random bs=1M count=40 seek=100 conv=notrunc 2>/dev/null; rm /data/hello; /sbin/fallocate -p -o 20M -l 20M /data/random; sync; fstrim /data || true",
    );
    const second = await take(domain, "After zeroing and deleting", repo);
    const taken = [full, first, second];
    await restoreAll(taken, repo);
    await domain.destroy();
    await bootCopy(lab, second, repo);
    const check = await thinstream(["check", ...repo.flags], { env: repo.env });
    say(check.stdout.trim());
    report(taken);
    if (check.code !== 0) throw new Error("the repository did not check out");
  } finally {
    await repo.stop();
    await lab.stop();
  }
}

function report(taken: readonly Taken[]): void {
  const rows = taken.map(({ what, backup, seconds }) => {
    const disk = backup.disks[0];
    const [dirty, uploaded] = [disk?.dirtyBytes ?? 0, disk?.uploadedBytes ?? 0];
    const ratio = dirty === 0 ? "-" : (uploaded / dirty).toFixed(2);
    return [
      what,
      backup.level,
      ...[dirty, disk?.zeroBytes ?? 0, disk?.readBytes ?? 0, uploaded].map((bytes) => formatBytes(bytes)),
      ratio,
      seconds.toFixed(1),
    ];
  });
  console.log(`\n${table(["POINT", "LEVEL", "DIRTY", "OF IT ZERO", "READ", "UPLOADED", "UPLOADED/DIRTY", "SECONDS"], rows)}`);
  console.log(`\nEvery point restored identical, the last one booted. ${((performance.now() - started) / 1000).toFixed(0)} s in all.`);
}

await main();
