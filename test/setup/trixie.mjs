// Tier `trixie`: Debian 13's libvirt 11.3 and QEMU 10.0 in a root of its own.
import { chmodSync, copyFileSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cached, hashOf, mortal, outputOf, run } from "./util.mjs";
import { ensurePackages } from "./apt.mjs";
import { needNamespaces } from "./host.mjs";

const PACKAGES = ["libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86", "qemu-utils", "ovmf"];
const VERSION = "1";
const CLEAN = { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C", HOME: "/root" } };

export async function ensureTrixie() {
  needNamespaces(
    "mount -t tmpfs probe /mnt; cd /mnt; mkdir l u w m; mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w probe /mnt/m",
  );
  await ensurePackages("trixie", ["debootstrap", "debian-archive-keyring"]);
  return cached("trixie", hashOf(VERSION, ...PACKAGES), build);
}

async function build(dir) {
  const mirror = process.env.THINSTREAM_DEBIAN_MIRROR ? [process.env.THINSTREAM_DEBIAN_MIRROR] : [];
  await inOwnNamespace("debootstrap of a minimal Debian 13 (about 100 MB)", ["debootstrap", "--variant=minbase", "trixie", dir, ...mirror]);
  const noServices = join(dir, "usr/sbin/policy-rc.d");
  writeFileSync(noServices, "#!/bin/sh\nexit 101\n");
  chmodSync(noServices, 0o755);
  if (existsSync("/etc/resolv.conf")) copyFileSync("/etc/resolv.conf", join(dir, "etc/resolv.conf"));
  writeFileSync(join(dir, "etc/apt/apt.conf.d/90proxy"), outputOf("sh", ["-c", "apt-config dump | grep -i '^Acquire::.*Proxy' || true"]));
  await inOwnNamespace("apt-get update in it", ["chroot", dir, "apt-get", "update", "-q"], CLEAN);
  const install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", ...PACKAGES];
  await inOwnNamespace("installing libvirt 11.3 and QEMU 10.0 in it", ["chroot", dir, ...install], CLEAN);
  for (const unused of ["var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/locale"]) {
    rmSync(join(dir, unused), { recursive: true, force: true });
  }
}

/** Processes and mounts that an interrupted step has made vanish with it: nothing may be removed through a mount. */
function inOwnNamespace(what, command, options = {}) {
  const namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
  return run({ tier: "trixie", what }, ...mortal("unshare", [...namespaces, "nice", ...command]), options);
}
