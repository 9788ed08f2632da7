// Tier `guest`: Debian's cloud kernel and a busybox initramfs with the guest agent; the packages are unpacked, not installed.
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { CannotDo, cached, hashOf, outputOf, root, run } from "./util.mjs";
import { downloadPackages, ensurePackages } from "./apt.mjs";

const VERSION = "1";
const MODULES = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_console"];
const PROGRAMS = ["/usr/sbin/mkfs.ext4", "/usr/bin/fallocate"];
const source = join(root, "test/setup/guest");

export async function ensureGuest() {
  await ensurePackages("guest", ["busybox-static", "cpio", "e2fsprogs", "util-linux", "libglib2.0-0", "liburing2", "libnuma1"]);
  return cached("guest", hashOf(VERSION, readFileSync(join(source, "init")), readFileSync(join(source, "shutdown"))), build);
}

async function build(dir) {
  const work = join(dir, "work");
  const unpacked = join(work, "unpacked");
  const tree = join(work, "tree");
  mkdirSync(unpacked, { recursive: true });
  await downloadPackages("guest", work, packages);
  for (const deb of readdirSync(work).filter((name) => name.endsWith(".deb"))) {
    await run({ tier: "guest", what: `unpacking ${deb}` }, "dpkg-deb", ["-x", deb, unpacked], { cwd: work });
  }
  const kernel = readdirSync(join(unpacked, "boot")).find((name) => name.startsWith("vmlinuz-"));
  if (kernel === undefined) throw new CannotDo("the kernel package holds no kernel");
  renameSync(join(unpacked, "boot", kernel), join(dir, "vmlinuz"));
  addModules(unpacked, tree);
  for (const program of [...PROGRAMS, join(unpacked, "usr/sbin/qemu-ga")]) addProgram(program, tree);
  put("/bin/busybox", join(tree, "bin/busybox"));
  put(join(source, "init"), join(tree, "init"));
  put(join(source, "shutdown"), join(tree, "sbin/shutdown"));
  const pack = 'find . -mindepth 1 -printf "%P\\n" | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible >../../initramfs';
  await run({ tier: "guest", what: "packing the initramfs" }, "sh", ["-c", pack], { cwd: tree });
  rmSync(work, { recursive: true });
}

function packages() {
  const kernel = /Depends: (linux-image-\S+)/.exec(outputOf("apt-cache", ["depends", "linux-image-cloud-amd64"]))?.[1];
  return kernel === undefined ? undefined : [kernel, "qemu-guest-agent"];
}

/** The modules and those they need, numbered in the order to load them. */
function addModules(unpacked, tree) {
  const found = new Map();
  for (const line of outputOf("find", [join(unpacked), "-name", "*.ko"])
    .trim()
    .split("\n")) {
    found.set(basename(line, ".ko").replaceAll("-", "_"), line);
  }
  const order = [];
  const add = (name) => {
    const path = found.get(name);
    if (path === undefined || order.includes(path)) return; // built in, or there already
    const needs = /\0depends=([^\0]*)\0/.exec(readFileSync(path, "latin1"))?.[1] ?? "";
    for (const need of needs.split(",").filter(Boolean)) add(need.replaceAll("-", "_"));
    order.push(path);
  };
  for (const name of MODULES) add(name);
  order.forEach((path, i) => put(path, join(tree, "modules", `${String(i).padStart(2, "0")}-${basename(path)}`)));
}

/** A program and the libraries it is linked with. */
function addProgram(path, tree) {
  put(path, join(tree, "sbin", basename(path)));
  const { stdout, status } = spawnSync("ldd", [path], { encoding: "utf8" });
  if (status !== 0 || stdout.includes("not found")) throw new CannotDo(`${path} lacks a library: ${stdout}`);
  for (const [, library] of stdout.matchAll(/(\/\S+)\s+\(0x/g)) {
    const target = library.includes("/ld-linux") ? "lib64" : "lib";
    put(library, join(tree, target, basename(library)));
  }
}

function put(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, 0o755);
}
