// Tier `host`: Debian's own libvirt and QEMU, run privately by the lab in its own namespaces.
import { spawnSync } from "node:child_process";
import { CannotDo, has } from "./util.mjs";
import { ensurePackages } from "./apt.mjs";

// Without libvirt-daemon-system: no service of the machine's is installed or started.
const PACKAGES = [
  "libvirt-daemon",
  "libvirt-daemon-driver-qemu",
  "libvirt-clients",
  "libvirt0",
  "qemu-system-x86",
  "qemu-utils",
  "ovmf",
  "libnbd0",
  "libnbd-bin",
  "nbdkit",
  "time",
  "util-linux",
  // Networks of their own.
  "iproute2",
  // Argo CD's health checks are Lua.
  "lua5.4",
];

export async function ensureHost() {
  needNamespaces();
  await ensurePackages("host", PACKAGES);
  return undefined;
}

/** Throws CannotDo where private mount and process namespaces (and in them the mounts of `script`) cannot be made. */
export function needNamespaces(script = "mount -t tmpfs probe /mnt") {
  if (process.getuid() !== 0) throw new CannotDo("needs root (mount namespaces for a private libvirt)");
  if (!has("unshare")) throw new CannotDo("unshare (package util-linux) is not on PATH");
  const probe = spawnSync("unshare", ["--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", script], { encoding: "utf8" });
  if (probe.status !== 0) throw new CannotDo(`this machine allows no private mounts: ${probe.stderr.trim()}`);
}

/** The peer that the benchmark measures against. */
export async function ensurePeer() {
  const libraries = ["python3-libvirt", "python3-libnbd"];
  if (process.env.PEER) {
    // A checkout brings no dependencies along; newer ones want colorlog as well.
    await ensurePackages("peer", [...libraries, "python3-lz4", "python3-tqdm", "python3-lxml", "python3-paramiko", "python3-colorlog"]);
    return process.env.PEER;
  }
  await ensurePackages("peer", ["virtnbdbackup", ...libraries]);
  return undefined;
}
