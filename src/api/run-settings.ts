import { excludedDisks } from "./common.ts";
import { bandwidth, duration } from "./values.ts";
import { integer, object, oneOf, optional, section, text } from "./schema.ts";

/** How one virtual machine is backed up: the same in a policy, for its runs, and in a run. */
export const runSettings = {
  level: oneOf(
    "What is read. Auto: what changed since the last restore point, disk by disk, and all of a disk whose changes are not known. Full: everything. Copy: everything, and no checkpoint is left in the virtual machine. Whatever is read, only what the last restore point does not have is stored. Default: Auto.",
    ["Auto", "Full", "Copy"],
    { default: "Auto" },
  ),
  consistency: section("How the guest's file systems are brought to rest at the backup's instant.", {
    mode: oneOf(
      "Auto: they are frozen where the guest agent can, else the backup is crash-consistent and says so. Required: without a freeze the run fails. Never: they are not frozen. Default: Auto.",
      ["Auto", "Required", "Never"],
      { default: "Auto" },
    ),
    freezeTimeout: duration("How long the guest agent may take to freeze them. Default: 1m.", ["1s", "10m"], { default: "1m" }),
  }),
  disks: excludedDisks,
  compression: oneOf("How data is compressed before it is encrypted and stored. Default: LZ4.", ["LZ4", "Zstd", "None"], {
    default: "LZ4",
  }),
  scratch: optional(
    object("Where QEMU keeps what the guest overwrites while its disks are read. A run ends before that place is full.", {
      directory: text(
        "Absolute path as QEMU sees it: inside the virt-launcher pod, or on the node for a libvirt domain. Default: beside libvirt's own run-time files.",
        1024,
        { pattern: "^/" },
      ),
    }),
  ),
  bandwidth: optional(
    bandwidth("Bytes per second that the run may upload, such as 200Mi. Default, and at most: what the repository allows a run."),
  ),
  deadline: duration("How long the run may take with all its attempts, from its start. Then it fails. Default: 12h.", ["1m", "168h"], {
    default: "12h",
  }),
  backoffLimit: integer(
    "How many more attempts follow one that failed, after 10 s, 20 s, 40 s and so on, 6 min at most. Default: 3.",
    0,
    10,
    { default: 3 },
  ),
};
