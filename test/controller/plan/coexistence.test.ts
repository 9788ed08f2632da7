import { describe, expect, test } from "vitest";
import type { MachineFacts } from "../../../src/controller/plan/kubevirt/facts.ts";
import { mustAbort } from "../../../src/controller/plan/kubevirt/obstacles.ts";
import { launcher, plan, running, said, stopped, vmiOf, vmOf } from "./machine.ts";

const parts = [{ name: "root" }];
const backup = (spec: object, conditions: readonly { type: string; status: string }[] = []): MachineFacts["backups"][number] => ({
  metadata: { name: "kv" },
  spec,
  status: { conditions },
});
const ofVm = { source: { kind: "VirtualMachine", name: "web" } };
const ofTracker = { source: { kind: "VirtualMachineBackupTracker", name: "t" } };
const tracker = { metadata: { name: "t" }, spec: ofVm };

/** What a running machine waits for, and what ends a run of it. */
const disturbances: [string, Partial<MachineFacts>, string][] = [
  [
    "being stopped",
    { vmi: { ...vmiOf(parts), metadata: { name: "web", uid: "vmi-uid", deletionTimestamp: "2026-11-21T12:00:00Z" } } },
    "Stopping: web is being stopped",
  ],
  [
    "a migration",
    { vmi: vmiOf(parts, { migrationState: { startTimestamp: "2026-11-21T12:00:00Z", targetNode: "n2" } }) },
    "Migrating: web migrates to n2; the backup follows",
  ],
  [
    "an evacuation",
    { vmi: vmiOf(parts, { evacuationNodeName: "n1" }) },
    "Evacuating: web has to leave node n1, which is being drained; the backup follows",
  ],
  [
    "a migration to come",
    { migrations: [{ metadata: { name: "m" }, spec: { vmiName: "web" } }] },
    "MigrationPending: the migration m of web is about to begin; the backup follows",
  ],
  [
    "KubeVirt's backup of the machine",
    { backups: [backup(ofVm)] },
    "ForeignBackup: KubeVirt's own backup kv of web is under way (backup.kubevirt.io); this one follows when it is done",
  ],
  [
    "one by its tracker",
    { backups: [backup(ofTracker, [{ type: "Progressing", status: "True" }])], trackers: [tracker] },
    "ForeignBackup: KubeVirt's own backup kv of web",
  ],
  [
    "one that is being aborted, of 1.8",
    {
      backups: [
        backup(ofVm, [
          { type: "Aborting", status: "True" },
          { type: "Done", status: "False" },
        ]),
      ],
    },
    "ForeignBackup",
  ],
  [
    "one that only the instance knows of",
    { vmi: vmiOf(parts, { changedBlockTracking: { backupStatus: { backupName: "b" } } }) },
    "ForeignBackup: KubeVirt's own backup b of web",
  ],
  [
    "a snapshot",
    { vm: vmOf(parts, {}, { status: { snapshotInProgress: "s" } }) },
    "SnapshotInProgress: KubeVirt takes the snapshot s of web; the backup follows",
  ],
  [
    "a restore",
    { vm: vmOf(parts, {}, { status: { restoreInProgress: "r" } }) },
    "RestoreInProgress: KubeVirt restores web from a snapshot (r); the backup follows",
  ],
];
const harmless: [string, Partial<MachineFacts>][] = [
  ["a migration that is over", { vmi: vmiOf(parts, { migrationState: { startTimestamp: "2026-11-21T12:00:00Z", completed: true } }) }],
  ["a migration that failed", { vmi: vmiOf(parts, { migrationState: { startTimestamp: "2026-11-21T12:00:00Z", failed: true } }) }],
  [
    "old migration objects, and one of another machine",
    {
      migrations: [
        { metadata: { name: "m" }, spec: { vmiName: "web" }, status: { phase: "Succeeded" } },
        { metadata: { name: "o" }, spec: { vmiName: "db" } },
      ],
    },
  ],
  [
    "a backup of another machine",
    {
      backups: [backup({ source: { kind: "VirtualMachine", name: "db" } }), backup(ofTracker)],
      trackers: [{ metadata: { name: "t" }, spec: { source: { kind: "VirtualMachine", name: "db" } } }],
    },
  ],
  ["backups that are over", { backups: ["Done", "Complete", "Failed"].map((type) => backup(ofVm, [{ type, status: "True" }])) }],
  [
    "a backup that the instance has done",
    { vmi: vmiOf(parts, { changedBlockTracking: { backupStatus: { backupName: "b", completed: true } } }) },
  ],
];

describe("coexistence", () => {
  const run = { engine: "libvirt", instanceUid: "vmi-uid", podUid: "pod-uid" } as const;

  test.each(disturbances)("%s is waited for, and ends a run that is under way", (_what, facts, message) => {
    expect(said(plan(running(parts, facts)))).toContain(`wait ${message}`);
    const abort = mustAbort(running(parts, facts), run);
    expect(`${abort?.reason}: ${abort?.message}`).toContain(message);
  });

  test.each(harmless)("%s does no harm", (_what, facts) => {
    expect(said(plan(running(parts, facts)))).toBe("ready libvirt");
    expect(mustAbort(running(parts, facts), run)).toBeNull();
  });

  test("a run ends when its machine, instance or pod goes", () => {
    const reasons = [
      { vm: null },
      { vmi: null },
      { vmi: vmiOf(parts, { phase: "Failed" }) },
      { pods: [] },
      { pods: [launcher({ deletionTimestamp: "2026-11-21T12:00:00Z" })] },
    ].map((facts) => mustAbort(running(parts, facts), run)?.message);
    expect(reasons).toEqual([
      "web is being deleted",
      "web was stopped while it was backed up",
      "web was stopped while it was backed up",
      "the virt-launcher pod of web went away while it was backed up",
      "the virt-launcher pod of web went away while it was backed up",
    ]);
    expect(mustAbort(running(parts), { ...run, instanceUid: "another" })?.reason).toBe("Stopping");
  });

  test("a run of a stopped machine gives its volumes up when the machine starts", () => {
    const image = { engine: "image" } as const;
    expect(mustAbort(stopped(), image)).toBeNull();
    expect(mustAbort(stopped(parts, { vmi: vmiOf(parts, { phase: "Scheduling" }) }), image)?.reason).toBe("Starting");
    expect(mustAbort(stopped(parts, { vm: vmOf(parts, { runStrategy: "Always" }) }), image)?.reason).toBe("Starting");
    expect(mustAbort(stopped(parts, { vm: vmOf(parts, {}, { status: { restoreInProgress: "r" } }) }), image)?.reason).toBe(
      "RestoreInProgress",
    );
  });
});
