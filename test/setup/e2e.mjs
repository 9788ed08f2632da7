// Tier `e2e`: a node's kubelet, containerd and runc, and the images it runs. Made on request alone: `npm test` does without.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { downloadPackages, ensurePackages } from "./apt.mjs";
import { buildKubelet } from "./cluster.mjs";
import { needNamespaces } from "./host.mjs";
import { CannotDo, cached, hashOf, localCache, mortal, outputOf, root, run, withLock } from "./util.mjs";

const TIER = "e2e";
// Unpacked, not installed: containerd's package would start a service of the machine's.
const UNPACKED = ["containerd", "runc"];
const PROGRAMS = {
  containerd: "usr/bin/containerd",
  "containerd-shim-runc-v2": "usr/bin/containerd-shim-runc-v2",
  ctr: "usr/bin/ctr",
  runc: "usr/sbin/runc",
};
const INSTALLED = ["libseccomp2", "containernetworking-plugins", "buildah", "debootstrap", "debian-archive-keyring", "busybox-static"];
const VERSION = "1";
const image = join(localCache, "image");

/** Gives a directory with `bin/` and the archives of the two images. */
export async function ensureE2e() {
  needNamespaces();
  await ensurePackages(TIER, INSTALLED);
  const bridge = "ip link add probe type bridge && ip link add probe0 type veth peer name probe1";
  const probe = spawnSync("unshare", ["--net", "sh", "-ec", bridge], { encoding: "utf8" });
  if (probe.status !== 0) throw new CannotDo(`this machine allows no network of its own: ${probe.stderr.trim()}`);
  const [runtime, kubelet] = [await cached("containerd", hashOf(VERSION, ...UNPACKED), unpackRuntime), await buildKubelet(TIER)];
  await withLock(`image-${hashOf(image)}`, buildImages);
  const dir = join(localCache, "lab/e2e");
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(join(dir, "bin"), { recursive: true });
  symlinkSync(kubelet, join(dir, "bin/kubelet"));
  for (const [name, path] of Object.entries(PROGRAMS)) symlinkSync(join(runtime, path), join(dir, "bin", name));
  for (const archive of ["thinstream.oci.tar", "pause.oci.tar"]) symlinkSync(join(image, archive), join(dir, archive));
  return dir;
}

async function unpackRuntime(dir) {
  await downloadPackages(TIER, dir, () => UNPACKED);
  for (const deb of readdirSync(dir).filter((name) => name.endsWith(".deb"))) {
    await run({ tier: TIER, what: `unpacking ${deb}` }, "dpkg-deb", ["-x", deb, "."], { cwd: dir });
    rmSync(join(dir, deb));
  }
  const missing = Object.values(PROGRAMS).filter((path) => !existsSync(join(dir, path)));
  if (missing.length > 0) throw new CannotDo(`the packages ${UNPACKED.join(", ")} hold no ${missing.join(", ")}`);
}

/** The images of this checkout; they are built again when what goes into them has changed. */
async function buildImages() {
  const inputs = [
    "Dockerfile",
    "LICENSE",
    "package.json",
    "package-lock.json",
    "src",
    "tsconfig.json",
    "tsconfig.build.json",
    "test/image",
  ];
  const stamp = hashOf(VERSION, ...inputs.flatMap((path) => contents(join(root, path))));
  const file = join(image, "stamp");
  if (existsSync(file) && readFileSync(file, "utf8") === stamp) return;
  mkdirSync(image, { recursive: true });
  // In namespaces of its own, an interrupted build leaves neither mounts nor processes.
  const namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
  for (const [what, script] of [
    ["building the image (about 3 minutes, the first time 5)", "build.sh"],
    ["building the image of pods' first process", "pause.sh"],
  ]) {
    await run({ tier: TIER, what }, ...mortal("unshare", [...namespaces, "nice", "sh", join(root, "test/image", script), image]));
  }
  writeFileSync(file, stamp);
}

function contents(path) {
  const files = outputOf("find", [path, "-type", "f"]).trim().split("\n").toSorted();
  return files.flatMap((file) => [file.slice(root.length), readFileSync(file)]);
}
