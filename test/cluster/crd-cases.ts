/** One rule of a custom resource, and objects it lets through and refuses. */
export interface RuleCase {
  readonly kind: string;
  /** Where the rule stands: `spec.disks[]`; empty for the object as a whole. */
  readonly at: string;
  /** How its sentence begins, where more than one rule stands there. */
  readonly says?: string;
  /** Where the values go, if elsewhere: as a path of the object, `spec.disks.0.name`. */
  readonly put?: string;
  readonly good: readonly unknown[];
  readonly bad: readonly unknown[];
}

/** A rule that compares with what was there before. */
export interface ChangeCase {
  readonly kind: string;
  readonly at: string;
  readonly says?: string;
  /** Merge patches of the least object of the kind. */
  readonly good: readonly object[];
  readonly bad: readonly object[];
}

const main = { name: "main" };

/** The least that each kind lets through. */
export const least: Readonly<Record<string, { readonly spec: object }>> = {
  BackupRepository: {
    spec: { s3: { bucket: "backups", credentialsSecretRef: { name: "bucket" } }, encryption: { keySecretRef: { name: "key" } } },
  },
  BackupPolicy: { spec: { repositoryRef: main } },
  VirtualMachineBackup: { spec: { source: { virtualMachine: { name: "web1" } }, repositoryRef: main } },
  RestorePoint: {
    spec: {
      repositoryRef: main,
      pointId: "0000000001",
      vm: { name: "web1", namespace: "default", uid: "5e7f3a52-5d0b-4d0c-9b1f-1b1a3c1d2e3f" },
      time: "2026-11-21T02:15:00Z",
      level: "Full",
      consistency: "Filesystem",
      disks: [{ name: "rootdisk", sizeBytes: 42_949_672_960 }],
      sizeBytes: 42_949_672_960,
      size: "40 GiB",
    },
  },
  RestoreRequest: { spec: { source: { restorePointRef: { name: "web1-1" } }, target: { virtualMachine: { name: "web1" } } } },
};

const selector = {
  good: [
    { key: "tier", operator: "In", values: ["web"] },
    { key: "tier", operator: "Exists" },
  ],
  bad: [
    { key: "tier", operator: "In" },
    { key: "tier", operator: "NotIn", values: [] },
    { key: "tier", operator: "Exists", values: ["web"] },
  ],
};
const cron = {
  good: ["15 2 * * *", "*/15 0-6,22 1 jan-MAR mon", "@daily", "@hourly", "0 0 1,15 */3 7"],
  bad: [
    "@every 1h",
    "@reboot",
    "* * * *",
    "0 0 * * * *",
    "60 * * * *",
    "0 24 * * *",
    "0 0 0 * *",
    "0 0 * 13 *",
    "0 0 * * 8",
    "*/0 * * * *",
    "daily",
  ],
};
const lockPeriod = {
  good: [{ schedule: "@daily", period: "168h" }, { schedule: "@daily" }],
  bad: [
    { schedule: "@daily", period: "167h" },
    { schedule: "@daily", period: "87601h" },
  ],
};
const zones = {
  good: ["UTC", "Europe/Paris", "America/Argentina/Ushuaia"],
  bad: ["Europe/Pariss", "Local", "+01:00", "../etc"],
};
const bandwidth = { good: ["64Ki", "1.5Gi", "100000000"], bad: ["63Ki", "0", "-1Mi", "2Ti", "fast", "10MB"] };
const duration = (good: string[], bad: string[]): { good: string[]; bad: string[] } => ({
  good,
  bad: [...bad, "1d", "1.5h", "soon", "-1h"],
});
const settings = (kind: string): RuleCase[] => [
  { kind, at: "spec.consistency.freezeTimeout", ...duration(["1s", "10m"], ["0s", "10m1s"]) },
  { kind, at: "spec.bandwidth", ...bandwidth },
  { kind, at: "spec.deadline", ...duration(["1m", "168h", "1h30m15s"], ["59s", "168h1s"]) },
];

const long = { name: "a".repeat(64) };

export const ruleCases: readonly RuleCase[] = [
  { kind: "BackupRepository", at: "", put: "metadata", good: [{ name: "a".repeat(63) }], bad: [long] },
  {
    kind: "BackupRepository",
    at: "spec.s3.endpoint",
    good: ["https://minio.example:9000", "http://10.0.0.1", "https://example.org/s3/"],
    bad: ["minio.example", "ftp://minio.example", "https://user:pass@minio.example", "https://minio.example?region=x", "https://"],
  },
  { kind: "BackupRepository", at: "spec.s3.prefix", good: ["a", "a/b_c.d-e"], bad: ["/a", "a/", "a//b", "a/../b", "a b"] },
  {
    kind: "BackupRepository",
    at: "spec.encryption",
    says: "keySecretRef goes with",
    good: [{ mode: "None" }, { mode: "ClientSide", keySecretRef: { name: "key" } }],
    bad: [{ mode: "ClientSide" }, {}, { mode: "None", keySecretRef: { name: "key" } }],
  },
  {
    kind: "BackupRepository",
    at: "spec.encryption",
    says: "domains Namespace goes with",
    good: [
      { domains: "Namespace", keySecretRef: { name: "key" } },
      { mode: "None", domains: "One" },
    ],
    bad: [{ mode: "None", domains: "Namespace" }],
  },
  { kind: "BackupRepository", at: "spec.allowedNamespaces.selector.matchExpressions[]", ...selector },
  { kind: "BackupRepository", at: "spec.limits.uploadBandwidth", ...bandwidth },
  { kind: "BackupRepository", at: "spec.maintenance.timeZone", ...zones },
  { kind: "BackupRepository", at: "spec.maintenance.prune.schedule", ...cron },
  { kind: "BackupRepository", at: "spec.maintenance.check.schedule", ...cron },
  {
    kind: "BackupRepository",
    at: "spec.maintenance.check",
    says: "level Checksum compares",
    good: [
      { schedule: "@daily" },
      { schedule: "@daily", samplePercent: 100 },
      { schedule: "@daily", level: "List" },
      { schedule: "@daily", level: "Checksum", samplePercent: 1 },
    ],
    bad: [
      { schedule: "@daily", level: "Checksum" },
      { schedule: "@daily", level: "Checksum", samplePercent: 0 },
    ],
  },
  { kind: "BackupRepository", at: "spec.maintenance.lock.schedule", ...cron },
  { kind: "BackupRepository", at: "spec.maintenance.lock.period", put: "spec.maintenance.lock", ...lockPeriod },

  { kind: "BackupPolicy", at: "", put: "metadata", good: [{ name: "a".repeat(63) }], bad: [long] },
  {
    kind: "BackupPolicy",
    at: "spec.schedule",
    ...cron,
  },
  {
    kind: "BackupPolicy",
    at: "spec.timeZone",
    ...zones,
  },
  { kind: "BackupPolicy", at: "spec.jitter", ...duration(["0s", "24h"], ["24h1s"]) },
  { kind: "BackupPolicy", at: "spec.window", good: [{ start: "22:00", end: "06:00" }], bad: [{ start: "06:00", end: "06:00" }] },
  { kind: "BackupPolicy", at: "spec.startingDeadline", ...duration(["1m", "168h"], ["59s", "169h"]) },
  { kind: "BackupPolicy", at: "spec.namespaces.selector.matchExpressions[]", ...selector },
  { kind: "BackupPolicy", at: "spec.selector.matchExpressions[]", ...selector },
  ...settings("BackupPolicy"),
  {
    kind: "BackupPolicy",
    at: "spec.retention",
    good: [{ keepLast: 1 }, { keepYearly: 1, keepDaily: 0 }, { keepWithin: "48h" }],
    bad: [{}, { minimumRestorePoints: 3 }, { keepLast: 0, keepHourly: 0, keepDaily: 0, keepWeekly: 0, keepMonthly: 0, keepYearly: 0 }],
  },
  { kind: "BackupPolicy", at: "spec.retention.keepWithin", ...duration(["1m", "876000h"], ["59s", "876001h"]) },
  { kind: "BackupPolicy", at: "spec.rpo", ...duration(["5m", "8784h"], ["4m59s", "8785h"]) },

  {
    kind: "VirtualMachineBackup",
    at: "spec.source",
    good: [{ virtualMachine: { name: "web1" } }, { libvirt: { nodeName: "node-1", domain: "web1" } }],
    bad: [{}, { virtualMachine: { name: "web1" }, libvirt: { nodeName: "node-1", domain: "web1" } }],
  },
  ...settings("VirtualMachineBackup"),
  { kind: "VirtualMachineBackup", at: "spec.ttlAfterFinished", ...duration(["1m", "8784h"], ["59s", "8785h"]) },

  {
    kind: "RestoreRequest",
    at: "spec.source",
    good: [{ restorePointRef: { name: "web1-1" } }, { repository: { name: "main", vm: { name: "web1" } } }],
    bad: [{}, { restorePointRef: { name: "web1-1" }, repository: { name: "main", vm: { name: "web1" } } }],
  },
  {
    kind: "RestoreRequest",
    at: "spec.target",
    good: [{ virtualMachine: { name: "web1" } }, { libvirt: { nodeName: "node-1", directory: "/srv", name: "web1" } }],
    bad: [{}, { virtualMachine: { name: "web1" }, libvirt: { nodeName: "node-1", directory: "/srv", name: "web1" } }],
  },
  {
    kind: "RestoreRequest",
    at: "spec.disks[]",
    good: [
      { name: "data", skip: true },
      { name: "data", storageClassName: "fast", volumeMode: "Block" },
    ],
    bad: [
      { name: "data", skip: true, storageClassName: "fast" },
      { name: "data", skip: true, volumeMode: "Block" },
    ],
  },
  {
    kind: "RestoreRequest",
    at: "spec",
    says: "storage classes and volume modes",
    good: [
      {
        source: { restorePointRef: { name: "p" } },
        target: { libvirt: { nodeName: "n", directory: "/srv", name: "w" } },
        disks: [{ name: "data", skip: true }],
      },
    ],
    bad: [
      {
        source: { restorePointRef: { name: "p" } },
        target: { libvirt: { nodeName: "n", directory: "/srv", name: "w" } },
        disks: [{ name: "data", volumeMode: "Block" }],
      },
      {
        source: { restorePointRef: { name: "p" } },
        target: { libvirt: { nodeName: "n", directory: "/srv", name: "w" } },
        storageClassMapping: { a: "b" },
      },
    ],
  },
  { kind: "RestoreRequest", at: "spec.deadline", ...duration(["1m", "168h"], ["59s", "168h1s"]) },
];

const spec = (changed: object): object => ({ spec: changed });
const status = { status: { observedGeneration: 1 } };
const labelled = { metadata: { labels: { seen: "yes" } } };

export const changeCases: readonly ChangeCase[] = [
  {
    kind: "BackupRepository",
    at: "spec.s3",
    good: [spec({ s3: { endpoint: "https://minio.example", region: "eu-west-1", credentialsSecretRef: { name: "newer" } } })],
    bad: [spec({ s3: { bucket: "other" } }), spec({ s3: { prefix: "added" } })],
  },
  {
    kind: "BackupRepository",
    at: "spec.encryption",
    says: "the encryption of a repository",
    good: [spec({ encryption: { keySecretRef: { name: "moved" } } })],
    bad: [spec({ encryption: { mode: "None", keySecretRef: null } }), spec({ encryption: { domains: "Namespace" } })],
  },
  { kind: "BackupRepository", at: "spec", good: [spec({ limits: { maxConcurrentRuns: 5 } })], bad: [spec({ formatVersion: 1 })] },
  { kind: "VirtualMachineBackup", at: "spec", good: [labelled, status], bad: [spec({ level: "Full" }), spec({ ttlAfterFinished: "1h" })] },
  {
    kind: "RestorePoint",
    at: "spec",
    good: [spec({ hold: true }), spec({ deletionPolicy: "Delete" }), labelled],
    bad: [spec({ pointId: "0000000002" }), spec({ vm: { name: "web2" } }), spec({ disks: [] }), spec({ time: "2026-11-22T00:00:00Z" })],
  },
  {
    kind: "RestoreRequest",
    at: "spec",
    says: "the spec cannot",
    good: [labelled, status],
    bad: [spec({ deadline: "1h" }), spec({ target: { virtualMachine: { existing: "Replace" } } })],
  },
];
