import { lastFailure, nameRef, objectName, podRef, progress, statusHead, warnings } from "../common.ts";
import { age, conditionColumn, defineKind, messageColumn, reasonColumn, type Resource } from "../kind.ts";
import { virtualMachineBackupReasons } from "../reasons.ts";
import { runSettings } from "../run-settings.ts";
import { byteCount, integer, mapOf, object, oneOf, optional, text, time } from "../schema.ts";
import { duration, exactlyOne, immutable } from "../values.ts";

const source = object(
  "What is backed up.",
  {
    virtualMachine: optional(nameRef("A KubeVirt VirtualMachine of this namespace, running or stopped.", "Name of the VirtualMachine.")),
    libvirt: optional(
      object("A libvirt domain of a node, without KubeVirt. Only in the namespace the operator runs in.", {
        nodeName: objectName("The node the domain is on."),
        uri: text("The connection URI of libvirt, as on the node. Default: qemu:///system.", 1024, {
          default: "qemu:///system",
          pattern: "^[a-z][a-z0-9+]*://",
        }),
        domain: text("Name of the domain.", 253, { minLength: 1 }),
      }),
    ),
  },
  { rules: [exactlyOne(["virtualMachine", "libvirt"])] },
);

const spec = object(
  "What one run backs up, where to and how. Cannot be changed.",
  {
    source,
    repositoryRef: nameRef("The repository the backup goes to.", "Name of the BackupRepository."),
    policyRef: optional(nameRef("The policy that made the run. Absent where a person did.", "Name of the BackupPolicy.")),
    ...runSettings,
    ttlAfterFinished: optional(
      duration(
        "How long the object stays after its run is done; the restore point stays longer. Default: for ever, or as long as its policy keeps it.",
        ["1m", "8784h"],
      ),
    ),
  },
  { rules: [immutable] },
);

const levels = ["Full", "Incremental", "Copy"] as const;

const disk = object("What became of one disk.", {
  name: text("Name of the disk.", 253),
  level: oneOf("What was read of it: everything, or what had changed.", [...levels]),
  reason: optional(text("Why it was read in full where a change list was hoped for.", 512)),
  sizeBytes: byteCount("Size of the disk as the guest sees it."),
  dirtyBytes: byteCount("Bytes that may have changed, zeros counted in."),
  zeroBytes: byteCount("Of those, bytes known to be zeros without reading."),
  readBytes: byteCount("Bytes that were read."),
  uploadedBytes: byteCount("Bytes that were put into the store, compressed and encrypted."),
});

const status = object("How the run goes, or went.", {
  ...statusHead(virtualMachineBackupReasons, "Succeeded is Unknown until the run is done, and never changes after that"),
  startTime: optional(time("When the first attempt began.")),
  completionTime: optional(time("When the run was done, one way or the other.")),
  level: optional(oneOf("What was read: Full where any disk was read in full.", [...levels])),
  engine: optional(
    oneOf("How the disks were read. LibvirtPull: from the running domain. Image: the stopped machine's images.", ["LibvirtPull", "Image"]),
  ),
  consistency: optional(
    oneOf("Filesystem: the guest was frozen. Crash: as after a power cut. Offline: the machine was stopped.", [
      "Filesystem",
      "Crash",
      "Offline",
    ]),
  ),
  nodeName: optional(objectName("The node of the present or last attempt.")),
  attempts: optional(integer("Attempts that were begun.", 0, 100)),
  agentPod: optional(podRef),
  progress: optional(progress),
  pointId: optional(text("The restore point's id in the repository.", 128)),
  restorePointRef: optional(nameRef("The restore point that was made, in this namespace.", "Name of the RestorePoint.")),
  uploaded: optional(text("What was put into the store for all disks, for people, such as 1.2 GiB.", 16)),
  disks: optional(mapOf("What became of each disk.", { items: disk, keys: ["name"], maxItems: 256 })),
  warnings: optional(warnings),
  lastFailure: optional(lastFailure),
});

export const virtualMachineBackup = defineKind({
  kind: "VirtualMachineBackup",
  plural: "virtualmachinebackups",
  shortName: "tvmb",
  scope: "Namespaced",
  description:
    "One run that backs up one virtual machine once, and makes one restore point. Deleting it while it goes on cancels the run; its restore point stays.",
  spec,
  status,
  reasons: virtualMachineBackupReasons,
  columns: [
    { name: "Machine", type: "string", jsonPath: ".spec.source.*['name','domain']", description: "The virtual machine or domain." },
    conditionColumn("Succeeded", "Whether the run succeeded; Unknown until it is done."),
    reasonColumn("Succeeded"),
    { name: "Level", type: "string", jsonPath: ".status.level", description: "What was read." },
    { name: "Percent", type: "integer", jsonPath: ".status.progress.percent", description: "Share that is done." },
    { name: "Uploaded", type: "string", jsonPath: ".status.uploaded", description: "What was put into the store." },
    age,
    { name: "Consistency", type: "string", jsonPath: ".status.consistency", description: "How the guest was at rest.", priority: 1 },
    { name: "Node", type: "string", jsonPath: ".status.nodeName", description: "Node of the last attempt.", priority: 1 },
    { name: "Point", type: "string", jsonPath: ".status.restorePointRef.name", description: "The restore point.", priority: 1 },
    { name: "Repository", type: "string", jsonPath: ".spec.repositoryRef.name", description: "Where the backup goes.", priority: 1 },
    messageColumn("Succeeded"),
  ],
});

export type VirtualMachineBackup = Resource<typeof virtualMachineBackup>;
