import { lastFailure, nameRef, namespaceName, objectName, podRef, progress, statusHead, warnings } from "../common.ts";
import { age, conditionColumn, defineKind, messageColumn, reasonColumn, type Resource } from "../kind.ts";
import { restoreRequestReasons } from "../reasons.ts";
import { flag, integer, mapOf, object, oneOf, optional, section, stringMap, text, time } from "../schema.ts";
import { duration, exactlyOne, immutable } from "../values.ts";

const source = object(
  "What is restored.",
  {
    restorePointRef: optional(nameRef("A restore point of this namespace.", "Name of the RestorePoint.")),
    repository: optional(
      object("A virtual machine's restore point, by time: also of a cluster that is gone.", {
        name: objectName("Name of the BackupRepository."),
        vm: object("The virtual machine.", {
          name: text("Its name when it was backed up.", 253, { minLength: 1 }),
          namespace: optional(
            text(
              "Its namespace when it was backed up; empty for a libvirt domain, which has none. Another than this request's: only from the namespace the operator runs in. Default: this request's.",
              63,
              { pattern: "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$" },
            ),
          ),
        }),
        time: optional(time("The newest restore point not after this moment is taken. Default: the newest of all.")),
      }),
    ),
  },
  { rules: [exactlyOne(["restorePointRef", "repository"])] },
);

const keepOrRenew = (what: string) =>
  optional(
    oneOf(
      `What becomes of the ${what}. Preserve: as it was. Regenerate: a new one. Default: Preserve, but Regenerate while the virtual machine it comes from exists beside the target.`,
      ["Preserve", "Regenerate"],
    ),
  );

const virtualMachine = object("A KubeVirt VirtualMachine.", {
  name: objectName("Its name."),
  namespace: optional(
    namespaceName("Its namespace. Another than this request's: only from the namespace the operator runs in. Default: this request's."),
  ),
  existing: oneOf(
    "What becomes of a virtual machine of this name that is there already. Fail: the request fails. Replace: its disks are overwritten, and it must be stopped. Skip: nothing is done, and the request succeeds. Default: Fail.",
    ["Fail", "Replace", "Skip"],
    { default: "Fail" },
  ),
  runStrategy: oneOf(
    "Its runStrategy once everything is restored. Original: as when it was backed up. Default: Original.",
    ["Original", "Halted", "Manual", "Always", "RerunOnFailure"],
    { default: "Original" },
  ),
  identity: section("What makes a virtual machine itself.", {
    macAddresses: keepOrRenew("MAC addresses"),
    firmwareUUID: keepOrRenew("firmware UUID"),
  }),
});

const libvirt = object("A libvirt domain of a node, without KubeVirt. Only in the namespace the operator runs in.", {
  nodeName: objectName("The node."),
  uri: text("The connection URI of libvirt, as on the node. Default: qemu:///system.", 1024, {
    default: "qemu:///system",
    pattern: "^[a-z][a-z0-9+]*://",
  }),
  directory: text("Absolute path on the node of the directory the disks are made in, as new qcow2 files.", 1024, { pattern: "^/" }),
  name: text("Name of the new domain. There must be none yet.", 253, { minLength: 1 }),
});

const target = object(
  "What it becomes.",
  { virtualMachine: optional(virtualMachine), libvirt: optional(libvirt) },
  {
    rules: [exactlyOne(["virtualMachine", "libvirt"])],
  },
);

const disk = object(
  "What becomes of one disk.",
  {
    name: text("Its name in the restore point.", 253, { minLength: 1 }),
    skip: flag("Whether it is left out: a replaced virtual machine keeps what it has, a new one goes without. Default: false.", {
      default: false,
    }),
    storageClassName: optional(objectName("StorageClass of its new volume. Default: by storageClassMapping.")),
    volumeMode: optional(
      oneOf("Whether its new volume is a block device or a file system with a disk.img. Default: as it was.", ["Block", "Filesystem"]),
    ),
  },
  {
    rules: [
      {
        rule: "!self.skip || (!has(self.storageClassName) && !has(self.volumeMode))",
        message: "a disk with skip takes neither storageClassName nor volumeMode",
      },
    ],
  },
);

const spec = object(
  "What is restored to where. Cannot be changed.",
  {
    source,
    target,
    disks: optional(mapOf("The disks for which something else holds than for all.", { items: disk, keys: ["name"], maxItems: 256 })),
    storageClassMapping: optional(
      stringMap(
        "StorageClass of the new volumes, by the one the disk had. Default: the one it had, or the cluster's default where that is gone.",
        64,
        253,
      ),
    ),
    deadline: duration(
      "How long the restore may take with all its attempts, from its start. Then it fails. Default: 24h.",
      ["1m", "168h"],
      {
        default: "24h",
      },
    ),
    backoffLimit: integer(
      "How many more attempts follow one that failed, after 10 s, 20 s, 40 s and so on, 6 min at most. Default: 3.",
      0,
      10,
      {
        default: 3,
      },
    ),
  },
  {
    rules: [
      immutable,
      {
        rule: "!has(self.target.libvirt) || (!has(self.storageClassMapping) && (!has(self.disks) || self.disks.all(disk, !has(disk.storageClassName) && !has(disk.volumeMode))))",
        message: "storage classes and volume modes are for volumes: a libvirt target has files",
      },
    ],
  },
);

const claim = object("A volume that is restored.", {
  disk: text("Name of the disk.", 253),
  name: objectName("Name of the PersistentVolumeClaim, in the target's namespace."),
});

const status = object("How the restore goes, or went.", {
  ...statusHead(restoreRequestReasons, "Succeeded is Unknown until the restore is done, and never changes after that"),
  startTime: optional(time("When the first attempt began.")),
  completionTime: optional(time("When the restore was done, one way or the other.")),
  pointId: optional(text("The restore point that is restored, by its id in the repository; chosen once.", 128)),
  pointTime: optional(time("When that restore point was made.")),
  nodeName: optional(objectName("The node of the present or last attempt.")),
  attempts: optional(integer("Attempts that were begun.", 0, 100)),
  agentPod: optional(podRef),
  progress: optional(progress),
  pvcs: optional(mapOf("The volumes.", { items: claim, keys: ["disk"], maxItems: 256 })),
  vmRef: optional(object("The restored VirtualMachine.", { namespace: namespaceName("Its namespace."), name: objectName("Its name.") })),
  warnings: optional(warnings),
  lastFailure: optional(lastFailure),
});

export const restoreRequest = defineKind({
  kind: "RestoreRequest",
  plural: "restorerequests",
  shortName: "rr",
  scope: "Namespaced",
  description:
    "A restore: one restore point becomes a virtual machine, new or replaced, once. Applied again it does nothing. Deleting it cancels a restore that goes on, and leaves what is restored.",
  spec,
  status,
  reasons: restoreRequestReasons,
  columns: [
    { name: "Target", type: "string", jsonPath: ".spec.target.*.name", description: "The virtual machine or domain it becomes." },
    conditionColumn("Succeeded", "Whether the restore succeeded; Unknown until it is done."),
    reasonColumn("Succeeded"),
    { name: "Percent", type: "integer", jsonPath: ".status.progress.percent", description: "Share that is done." },
    { name: "Point", type: "string", jsonPath: ".status.pointTime", description: "When the restore point was made." },
    age,
    { name: "Node", type: "string", jsonPath: ".status.nodeName", description: "Node of the last attempt.", priority: 1 },
    messageColumn("Succeeded"),
  ],
});

export type RestoreRequest = Resource<typeof restoreRequest>;
