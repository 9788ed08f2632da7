import { labelSelector, secretRef, statusHead } from "../common.ts";
import { age, conditionColumn, defineKind, messageColumn, nameFitsLabel, reasonColumn, type Resource } from "../kind.ts";
import { backupRepositoryReasons } from "../reasons.ts";
import { bandwidth, duration, fixed, schedule, timeZone } from "../values.ts";
import { byteCount, flag, integer, object, oneOf, optional, section, text, time } from "../schema.ts";

const s3 = object(
  "The bucket of an S3-compatible object store.",
  {
    endpoint: optional(
      text("URL of the service, such as https://minio.example:9000. Default: Amazon's own for the region.", 1024, {
        rules: [
          {
            rule: "self.matches('^https?://[^/?#@ ][^?#@ ]*$')",
            message: "must be http:// or https:// with a host, without credentials and parameters",
          },
        ],
      }),
    ),
    region: optional(
      text("Region of the bucket. Default: us-east-1, which most services other than Amazon's take.", 63, {
        pattern: "^[a-z0-9][a-z0-9-]*$",
      }),
    ),
    bucket: text("Name of the bucket. It must exist.", 63, { minLength: 3, pattern: "^[a-z0-9][a-z0-9.-]*[a-z0-9]$" }),
    prefix: optional(
      text("What the keys of all objects begin with, without a slash at either end. Default: nothing.", 256, {
        minLength: 1,
        rules: [
          {
            rule: "self.split('/').all(part, part.matches('^[A-Za-z0-9._-]+$') && part != '.' && part != '..')",
            message: "must be parts of letters, digits, dots, dashes and underscores, joined by single slashes",
          },
        ],
      }),
    ),
    pathStyle: optional(
      flag("Whether the bucket stands in the URL's path rather than in its host name. Default: true where an endpoint is set, else false."),
    ),
    credentialsSecretRef: secretRef(
      "Secret with the entries AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where the service wants it, AWS_SESSION_TOKEN. They must be allowed to list the bucket and to get and put objects; to delete is not needed.",
    ),
    caBundle: optional(
      text("Certificates in PEM that the service's own certificate is trusted by, besides the system's. Default: none.", 65_536, {
        pattern: "^\\s*-----BEGIN CERTIFICATE-----",
      }),
    ),
  },
  {
    rules: [
      fixed({ always: ["bucket"], optional: ["prefix"] }, "bucket and prefix cannot be changed: make a new BackupRepository instead"),
    ],
  },
);

const encryption = object(
  "How the repository is encrypted, before anything leaves the node.",
  {
    mode: oneOf(
      "ClientSide: by the key of the repository, which the store never sees. None: not at all. Cannot be changed. Default: ClientSide.",
      ["ClientSide", "None"],
      { default: "ClientSide" },
    ),
    domains: oneOf(
      "One: all machines' data is sealed under keys that follow from one, and what several machines have is stored once. Namespace: each namespace has a key of its own in the repository, which can be given to its tenant to read with, and destroyed alone; nothing is shared between namespaces. Cannot be changed. Default: One.",
      ["One", "Namespace"],
      { default: "One" },
    ),
    keySecretRef: optional(
      secretRef("Secret with the entry thinstream.key: the key file. Keep a copy elsewhere: without it nothing can be restored."),
    ),
  },
  {
    rules: [
      fixed({ always: ["mode", "domains"] }, "the encryption of a repository cannot be changed: make a new BackupRepository instead"),
      {
        rule: "(self.mode == 'ClientSide') == has(self.keySecretRef)",
        message: "keySecretRef goes with mode ClientSide, and only with it",
      },
      { rule: "self.mode == 'ClientSide' || self.domains == 'One'", message: "domains Namespace goes with mode ClientSide" },
    ],
  },
);

const spec = object(
  "Where the repository is, and who may use it how.",
  {
    s3,
    encryption,
    initialize: oneOf(
      "IfNotPresent: where there is no repository at the location yet, an empty one is made. Never: one that is missing is an error, as is right for a cluster that is to restore. What was there once is never made anew. Default: IfNotPresent.",
      ["IfNotPresent", "Never"],
      { default: "IfNotPresent" },
    ),
    formatVersion: optional(
      integer(
        "Version of the repository format that is made where the bucket has no repository yet; one that is there keeps its own. Cannot be changed. Default: the newest this operator writes.",
        1,
        1,
      ),
    ),
    allowedNamespaces: optional(
      object("Which namespaces may back up to the repository and restore from it. Default: all.", {
        selector: labelSelector("Labels of the namespaces; an empty selector takes all."),
      }),
    ),
    limits: section("What runs may take of the network and the store.", {
      uploadBandwidth: optional(bandwidth("Bytes per second that one run may upload, such as 400Mi. Default: no limit.")),
      maxConcurrentRuns: integer("How many backups and restores may run at the same time. Default: 20.", 1, 1000, { default: 20 }),
    }),
    maintenance: section("The upkeep of the repository.", {
      credentialsSecretRef: optional(
        secretRef(
          "Secret like s3.credentialsSecretRef, used to forget restore points, to prune, which needs the right to delete objects, and to extend locks, which needs the right to put retention. Agents of backup runs never get it. Default: the same.",
        ),
      ),
      timeZone: timeZone("Time zone of the schedules"),
      prune: optional(
        object("Takes away what no restore point needs any more. Default: nothing is taken away, and the bucket grows.", {
          schedule: schedule("When", ""),
        }),
      ),
      check: optional(
        object(
          "Looks whether all that restore points need is there, by lists, and at some of the packs besides. Default: not.",
          {
            schedule: schedule("When", ""),
            level: oneOf(
              "What is done with packs that are drawn. List: they are read and proved. Checksum: nothing is read, and the store is asked for the checksum that it keeps of them, which must be that of the upload; bytes that rot behind the store's back do not show. Default: List.",
              ["List", "Checksum"],
              { default: "List" },
            ),
            samplePercent: integer(
              "How many percent of the packs are drawn, anew each time: with level List read, 100 being all; with level Checksum compared, of which 10 a day come round in weeks. Default: 0.",
              0,
              100,
              { default: 0 },
            ),
          },
          {
            rules: [
              {
                rule: "self.level != 'Checksum' || self.samplePercent > 0",
                message: "level Checksum compares samplePercent of the packs: set it too, such as to 10",
              },
            ],
          },
        ),
      ),
      lock: optional(
        object("Extends the Object Lock of what restore points need, before it ends. Default: a lock ends when that of its upload does.", {
          schedule: schedule("When; once a day is right", ""),
          period: duration(
            "How long what is needed stays locked from then on: as long as it may take to notice a thief. Default: 720h.",
            ["168h", "87600h"],
            { default: "720h" },
          ),
          requests: integer(
            "Requests for single objects at most in a run, so that nobody is surprised by what they cost; what is left comes in the next, soonest end first. With a period of 720h each object takes one in 15 to 20 days: 100000 a day do for 1.7 million packs, 50 TiB. Default: 100000.",
            1000,
            1_000_000_000,
            { default: 100_000 },
          ),
        }),
      ),
    }),
  },
  { rules: [fixed({ optional: ["formatVersion"] }, "the format of a repository cannot be changed: make a new BackupRepository instead")] },
);

const upkeepTimes = {
  lastAttemptTime: optional(time("When it was last tried, and that ended.")),
  lastSuccessTime: optional(time("When it last ended well.")),
  nextTime: optional(time("When it is due next.")),
};

const status = object("What is known of the repository.", {
  ...statusHead(backupRepositoryReasons, "Ready sums up Reachable, KeyAvailable and CatalogSynced"),
  repositoryId: optional(text("Identity of the repository found there, 32 hex digits.", 64)),
  formatVersion: optional(integer("Version of the repository's format.", 1, 1_000_000)),
  usage: optional(
    object("What the catalog adds up to.", {
      points: integer("Restore points.", 0, 2_147_483_647),
      machines: integer("Virtual machines with at least one restore point.", 0, 2_147_483_647),
      storedBytes: byteCount("Bytes that the listed restore points put into the store when they were made."),
      stored: text("The same for people, such as 1.2 TiB.", 16),
    }),
  ),
  lastSyncTime: optional(time("When the catalog was last read and mirrored in full.")),
  prune: optional(
    object("The last prune, and the next.", {
      ...upkeepTimes,
      packs: optional(byteCount("Packs in the bucket when it began.")),
      packBytes: optional(byteCount("Their bytes.")),
      removedPoints: optional(byteCount("Forgotten restore points that it removed.")),
      removedBytes: optional(byteCount("Bytes of packs that it removed.")),
      waitingBytes: optional(byteCount("Bytes of packs that nothing needs, and that go when they were found so twice, 30 hours apart.")),
      waitingUntil: optional(time("When a prune may take the first of those.")),
      sparsePacks: optional(byteCount("Packs of which restore points need less than 30 percent.")),
      sparseBytes: optional(byteCount("Their bytes.")),
      needlessBytes: optional(
        byteCount(
          "Of these bytes those that nobody needs. Backups store the rest again, and a pack goes with the restore points that need it.",
        ),
      ),
    }),
  ),
  check: optional(
    object("The last check, and the next.", {
      ...upkeepTimes,
      level: optional(oneOf("What it did with packs that were drawn, as spec.maintenance.check.level said then.", ["List", "Checksum"])),
      packs: optional(byteCount("Packs that were looked for.")),
      bytesRead: optional(byteCount("Bytes that were read and proved.")),
      comparedPacks: optional(byteCount("Level Checksum: packs whose checksum in the store was compared with that of the upload.")),
      damagedPoints: optional(byteCount("Restore points that lack something.")),
    }),
  ),
  lock: optional(
    object("The last extension of locks, and the next.", {
      ...upkeepTimes,
      objects: optional(byteCount("Objects that restore points need and that are locked.")),
      soonest: optional(time("When the first of their locks ends.")),
      renewed: optional(byteCount("Locks that were extended.")),
      left: optional(byteCount("Locks that were due and left for the next time, since it asks the store for so much only.")),
      exposed: optional(byteCount("Objects that are needed and not locked, missing, overwritten or deleted.")),
    }),
  ),
});

export const backupRepository = defineKind({
  kind: "BackupRepository",
  plural: "backuprepositories",
  shortName: "bkrepo",
  scope: "Cluster",
  description:
    "A place where backups are kept: a bucket, its key and the rules for using it. Its restore points appear as RestorePoints, also in a cluster that did not make them. Deleting it deletes nothing in the bucket.",
  spec,
  status,
  rules: [nameFitsLabel],
  reasons: backupRepositoryReasons,
  columns: [
    conditionColumn("Ready", "Whether backups and restores can use it."),
    reasonColumn("Ready"),
    { name: "Bucket", type: "string", jsonPath: ".spec.s3.bucket", description: "Name of the bucket." },
    { name: "Points", type: "integer", jsonPath: ".status.usage.points", description: "Restore points in it." },
    { name: "Stored", type: "string", jsonPath: ".status.usage.stored", description: "What they put into the store." },
    { name: "Synced", type: "date", jsonPath: ".status.lastSyncTime", description: "Time since the catalog was read." },
    { ...conditionColumn("Sound", "Whether the last check found all that is needed."), priority: 1 },
    {
      name: "Pruned",
      type: "date",
      jsonPath: ".status.prune.lastSuccessTime",
      description: "Time since what nobody needs was taken away.",
      priority: 1,
    },
    age,
    { name: "Prefix", type: "string", jsonPath: ".spec.s3.prefix", description: "Prefix of all keys.", priority: 1 },
    { name: "Encryption", type: "string", jsonPath: ".spec.encryption.mode", description: "How it is encrypted.", priority: 1 },
    messageColumn("Ready"),
  ],
});

export type BackupRepository = Resource<typeof backupRepository>;
