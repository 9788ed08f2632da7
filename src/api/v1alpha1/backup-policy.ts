import type { Static } from "typebox";
import { labelSelector, namespaceName, nameRef, objectName, statusHead } from "../common.ts";
import { age, conditionColumn, defineKind, messageColumn, nameFitsLabel, reasonColumn, type Resource } from "../kind.ts";
import { backupPolicyReasons, unprotectedReasons } from "../reasons.ts";
import { runSettings } from "../run-settings.ts";
import { flag, integer, mapOf, object, oneOf, optional, section, text, time } from "../schema.ts";
import { duration, schedule, timeZone } from "../values.ts";

const clock = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

const window = object(
  "When runs may go on, every day. It may pass midnight.",
  {
    start: text("When it opens, such as 22:00, in the policy's time zone.", 5, { pattern: clock }),
    end: text("When it closes, such as 06:00.", 5, { pattern: clock }),
    onOverrun: oneOf(
      "What becomes of a run that is not done when it closes. Continue: it goes on. Cancel: it ends, and nothing of it stays. No run starts outside. Default: Continue.",
      ["Continue", "Cancel"],
      { default: "Continue" },
    ),
  },
  { rules: [{ rule: "self.start != self.end", message: "start and end must differ" }] },
);

const keep = (what: string) => optional(integer(`How many ${what} to keep. Default: 0.`, 0, 10_000));
const counted = ["keepLast", "keepHourly", "keepDaily", "keepWeekly", "keepMonthly", "keepYearly"];

const retention = object(
  "Which restore points of a virtual machine stay: every one that any of these keeps. All others are forgotten, but none with hold. Without it all stay. Hours to years are those of the policy's time zone, weeks begin on Monday.",
  {
    keepLast: keep("of the newest restore points"),
    keepHourly: keep("hours, each by its last restore point,"),
    keepDaily: keep("days, each by its last restore point,"),
    keepWeekly: keep("weeks, each by its last restore point,"),
    keepMonthly: keep("months, each by its last restore point,"),
    keepYearly: keep("years, each by its last restore point,"),
    keepWithin: optional(
      duration(
        "Every restore point that is not older than the newest one by more than this stays, such as 48h. Default: none for its age.",
        ["1m", "876000h"],
      ),
    ),
    minimumRestorePoints: integer("However old they are, this many of the newest restore points stay. Default: 1.", 1, 1000, {
      default: 1,
    }),
  },
  {
    rules: [
      {
        rule: `has(self.keepWithin) || ${counted.map((field) => `(has(self.${field}) && self.${field} > 0)`).join(" || ")}`,
        message: `must keep something: set keepWithin, or at least one of ${counted.join(", ")} to 1 or more`,
      },
    ],
  },
);

const spec = object("Which virtual machines are backed up, when, to where, and what stays.", {
  schedule: optional(schedule("When backups are made", "only on the manual trigger")),
  timeZone: timeZone("Time zone of schedule, window and retention"),
  jitter: duration(
    "Runs are spread over this long after each scheduled time. A virtual machine's share of it is always the same. Default: 0s.",
    ["0s", "24h"],
    { default: "0s" },
  ),
  window: optional(window),
  suspend: flag("Whether scheduled runs are left out. Runs that go on are not touched; the manual trigger still works. Default: false.", {
    default: false,
  }),
  startingDeadline: duration(
    "How late a run may start. After that it is left out, and the next scheduled time is waited for. Default: 1h.",
    ["1m", "168h"],
    {
      default: "1h",
    },
  ),
  trigger: optional(
    object("Runs beside the schedule.", {
      manual: text(
        "Whenever this differs from status.lastManualTrigger, every selected virtual machine is backed up once, now. Any text, such as a date.",
        253,
        { minLength: 1 },
      ),
    }),
  ),
  namespaces: optional(
    object("Namespaces whose virtual machines are selected. Default: all.", {
      selector: labelSelector("Labels of the namespaces; an empty selector takes all."),
    }),
  ),
  selector: optional(
    labelSelector(
      'Labels of the virtual machines. A virtual machine labelled thinstream.dev/backup: "false" is never selected. Default: all.',
    ),
  ),
  repositoryRef: nameRef("The repository the backups go to.", "Name of the BackupRepository."),
  concurrency: section("How many of the policy's runs may go on at the same time. The repository has a limit of its own.", {
    perPolicy: integer("In all. Default: 10.", 1, 1000, { default: 10 }),
    perNode: integer("On one node, runs of other policies counted in. Default: 2.", 1, 100, { default: 2 }),
  }),
  ...runSettings,
  retention: optional(retention),
  rpo: optional(
    duration(
      "Recovery point objective: a virtual machine whose newest restore point is older is not Protected. Default: none, and Protected is Unknown.",
      ["5m", "8784h"],
    ),
  ),
  runsHistoryLimit: integer(
    "How many finished VirtualMachineBackups are kept for each virtual machine, the newest. Restore points do not depend on them. Default: 5.",
    1,
    100,
    { default: 5 },
  ),
});

const unprotected = object("A virtual machine that is not protected.", {
  namespace: namespaceName("Its namespace."),
  name: objectName("Its name."),
  reason: oneOf("Why, in one word.", [...unprotectedReasons]),
  message: text("Why, in a sentence that says what to do.", 512),
});

const status = object("What the policy did and will do.", {
  ...statusHead(backupPolicyReasons, "Ready whether it can do its work, Protected whether every selected virtual machine meets the rpo"),
  matchedVMs: optional(integer("Virtual machines it selects.", 0, 2_147_483_647)),
  protectedVMs: optional(integer("Of these, the ones whose newest restore point is young enough for the rpo.", 0, 2_147_483_647)),
  activeRuns: optional(integer("Runs that have begun and are not done.", 0, 2_147_483_647)),
  lastScheduleTime: optional(time("The last scheduled time that runs were made for.")),
  nextScheduleTime: optional(time("The next scheduled time, without jitter.")),
  lastSuccessfulTime: optional(time("When the newest restore point of any of its virtual machines was made.")),
  lastManualTrigger: optional(text("The trigger.manual that was last acted on.", 253)),
  retentionPreview: optional(
    object("What the retention does to the restore points there are now.", {
      keep: integer("Restore points that stay.", 0, 2_147_483_647),
      forget: integer("Restore points that are to be forgotten.", 0, 2_147_483_647),
      held: integer("Of those that stay, the ones that only hold keeps.", 0, 2_147_483_647),
    }),
  ),
  unprotected: optional(
    mapOf("The first virtual machines that are not protected, by namespace and name; 20 at most.", {
      items: unprotected,
      keys: ["namespace", "name"],
      maxItems: 20,
    }),
  ),
});

export const backupPolicy = defineKind({
  kind: "BackupPolicy",
  plural: "backuppolicies",
  shortName: "bkpol",
  scope: "Cluster",
  description:
    "A rule that keeps virtual machines backed up: which ones, when, to which repository, and which restore points stay. It makes one VirtualMachineBackup for each virtual machine and scheduled time.",
  spec,
  status,
  rules: [nameFitsLabel],
  reasons: backupPolicyReasons,
  columns: [
    { name: "Schedule", type: "string", jsonPath: ".spec.schedule", description: "When backups are made." },
    { name: "Suspend", type: "boolean", jsonPath: ".spec.suspend", description: "Whether scheduled runs are left out." },
    { name: "VMs", type: "integer", jsonPath: ".status.matchedVMs", description: "Virtual machines it selects." },
    { name: "Protected", type: "integer", jsonPath: ".status.protectedVMs", description: "Of these, the ones that meet the rpo." },
    { name: "Last", type: "date", jsonPath: ".status.lastSuccessfulTime", description: "Time since the newest restore point." },
    // kubectl writes dates as ages, and has none for what is to come.
    { name: "Next", type: "string", jsonPath: ".status.nextScheduleTime", description: "The next scheduled time." },
    conditionColumn("Ready", "Whether it can do its work."),
    age,
    { name: "RPO", type: "string", jsonPath: ".spec.rpo", description: "Recovery point objective.", priority: 1 },
    { name: "Repository", type: "string", jsonPath: ".spec.repositoryRef.name", description: "Where the backups go.", priority: 1 },
    { name: "Zone", type: "string", jsonPath: ".spec.timeZone", description: "Time zone of the schedule.", priority: 1 },
    reasonColumn("Ready", 1),
    messageColumn("Ready"),
  ],
});

export type BackupPolicy = Resource<typeof backupPolicy>;
export type Retention = Static<typeof retention>;
