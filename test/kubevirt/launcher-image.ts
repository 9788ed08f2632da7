import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Flavour, needTier, tierPath } from "../lab/index.ts";
import type { Image } from "../node/index.ts";

export const LAUNCHER_IMAGE = "quay.invalid/kubevirt/virt-launcher:v1.9.0";
/** Who KubeVirt runs virt-launcher as. */
export const QEMU_USER = 107;
export const GUEST_DIR = "/usr/share/guest";

/** An image with libvirt, QEMU and the lab's guest, of Debian 13 (with data stores, as changed block tracking needs) or of this machine. @throws LabError */
export function launcherImage(dir: string, flavour: Flavour): Image {
  needTier(flavour);
  const root = flavour === "trixie" ? tierPath("trixie") : "/";
  for (const sub of ["etc", "usr/bin", GUEST_DIR]) mkdirSync(join(dir, sub), { recursive: true });
  // Without an entry, libvirt refuses to serve its own user.
  addLine(root, dir, { file: "etc/passwd", line: `qemu:x:${QEMU_USER}:${QEMU_USER}:qemu:/:/usr/sbin/nologin` });
  addLine(root, dir, { file: "etc/group", line: `qemu:x:${QEMU_USER}:` });
  for (const command of ["virt-launcher", "make-overlay"]) {
    copyFileSync(join(import.meta.dirname, `${command}.sh`), join(dir, "usr/bin", command));
    chmodSync(join(dir, "usr/bin", command), 0o755);
  }
  const guest = tierPath("guest");
  for (const file of ["vmlinuz", "initramfs"])
    if (guest !== "" && existsSync(join(guest, file))) copyFileSync(join(guest, file), join(dir, GUEST_DIR, file));
  return { layers: [dir, root], entrypoint: ["/usr/bin/virt-launcher"] };
}

function addLine(root: string, dir: string, { file, line }: { readonly file: string; readonly line: string }): void {
  const others = readFileSync(join(root, file), "utf8").split("\n").filter((one) => one !== "" && one.split(":")[2] !== String(QEMU_USER)); // prettier-ignore
  writeFileSync(join(dir, file), `${[...others, line].join("\n")}\n`);
}
