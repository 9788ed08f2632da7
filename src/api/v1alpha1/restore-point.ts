import { nameRef, namespaceName, statusHead } from "../common.ts";
import { age, conditionColumn, defineKind, messageColumn, type Resource } from "../kind.ts";
import { restorePointReasons } from "../reasons.ts";
import { byteCount, flag, mapOf, object, oneOf, optional, text, time } from "../schema.ts";
import { fixed } from "../values.ts";

const vm = object("The virtual machine it was taken of.", {
  name: text("Its name: of the VirtualMachine, or of the libvirt domain.", 253, { minLength: 1 }),
  namespace: optional(namespaceName("The VirtualMachine's namespace when it was backed up. Absent for a libvirt domain.")),
  uid: optional(text("The VirtualMachine's metadata.uid, or the domain's UUID.", 64)),
});

const disk = object("A disk of the restore point.", {
  name: text("Its name: the volume's in the VirtualMachine, or libvirt's target such as vda.", 253, { minLength: 1 }),
  sizeBytes: byteCount("Its size as the guest sees it."),
});

const mirrored = ["repositoryRef", "pointId", "vm", "time", "level", "consistency", "disks", "sizeBytes", "size"];

const spec = object(
  "What the repository says of the restore point, which cannot be changed here, and what is to become of it.",
  {
    repositoryRef: nameRef("The repository that holds it.", "Name of the BackupRepository."),
    pointId: text("Its id in the repository.", 128, { minLength: 1 }),
    vm,
    time: time("When it was made, by the store's clock."),
    level: oneOf("What was read for it. Each restore point is complete in itself, whatever its level.", [
      "Full",
      "Incremental",
      "Differential",
      "Copy",
    ]),
    consistency: oneOf("Filesystem: the guest was frozen. Crash: as after a power cut. Offline: the machine was stopped.", [
      "Filesystem",
      "Crash",
      "Offline",
    ]),
    disks: mapOf("Its disks.", { items: disk, keys: ["name"], maxItems: 256 }),
    sizeBytes: byteCount("Size of all disks together as the guest sees them: what a restore takes at most."),
    size: text("The same for people, such as 40 GiB.", 16),
    deletionPolicy: oneOf(
      "What deleting this object does. Retain: nothing to the restore point, and the object comes back from the repository. Delete: the restore point is forgotten. Default: Retain.",
      ["Delete", "Retain"],
      { default: "Retain" },
    ),
    hold: flag("Whether the restore point stays whatever a policy's retention says, and whoever deletes this object. Default: false.", {
      default: false,
    }),
  },
  { rules: [fixed({ always: mirrored }, "only hold and deletionPolicy can be changed: the rest is what the repository says")] },
);

const status = object("What holds of the restore point now.", {
  ...statusHead(restorePointReasons, "Ready whether it can be restored, Verified whether its data was found whole"),
});

export const restorePoint = defineKind({
  kind: "RestorePoint",
  plural: "restorepoints",
  shortName: "rp",
  scope: "Namespaced",
  description:
    "A restore point of the catalog: what a virtual machine was at one moment. It mirrors the repository, which alone is the truth, and is made and removed by the operator.",
  spec,
  status,
  reasons: restorePointReasons,
  columns: [
    { name: "Machine", type: "string", jsonPath: ".spec.vm.name", description: "The virtual machine." },
    { name: "Time", type: "string", jsonPath: ".spec.time", description: "When it was made." },
    { name: "Level", type: "string", jsonPath: ".spec.level", description: "What was read for it." },
    { name: "Consistency", type: "string", jsonPath: ".spec.consistency", description: "How the guest was at rest." },
    { name: "Size", type: "string", jsonPath: ".spec.size", description: "Size of its disks." },
    conditionColumn("Ready", "Whether it can be restored."),
    { name: "Hold", type: "boolean", jsonPath: ".spec.hold", description: "Whether it stays in any case." },
    age,
    { ...conditionColumn("Verified", "Whether its data was found whole."), priority: 1 },
    { name: "Repository", type: "string", jsonPath: ".spec.repositoryRef.name", description: "What holds it.", priority: 1 },
    { name: "Point", type: "string", jsonPath: ".spec.pointId", description: "Its id in the repository.", priority: 1 },
    messageColumn("Ready"),
  ],
});

export type RestorePoint = Resource<typeof restorePoint>;
