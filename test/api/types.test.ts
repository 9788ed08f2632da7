import { describe, expectTypeOf, test } from "vitest";
import type { BackupPolicy, BackupRepository, LabelSelector, RestoreRequest, VirtualMachineBackup } from "../../src/api/index.ts";

describe("the types that follow from the schemas", () => {
  test("have every field with a default set, and the others as the schema says", () => {
    expectTypeOf<BackupPolicy["kind"]>().toEqualTypeOf<"BackupPolicy">();
    expectTypeOf<BackupPolicy["spec"]["suspend"]>().toEqualTypeOf<boolean>();
    expectTypeOf<BackupPolicy["spec"]["schedule"]>().toEqualTypeOf<string | undefined>();
    expectTypeOf<BackupPolicy["spec"]["concurrency"]["perNode"]>().toEqualTypeOf<number>();
    expectTypeOf<NonNullable<BackupPolicy["spec"]["window"]>["onOverrun"]>().toEqualTypeOf<"Continue" | "Cancel">();
    expectTypeOf<BackupPolicy["spec"]["selector"]>().toEqualTypeOf<LabelSelector | undefined>();
    expectTypeOf<BackupRepository["spec"]["s3"]["bucket"]>().toEqualTypeOf<string>();
    expectTypeOf<RestoreRequest["spec"]["storageClassMapping"]>().toEqualTypeOf<Record<string, string> | undefined>();
  });

  test("share one set of run settings between policy and run", () => {
    type Settings = "level" | "consistency" | "disks" | "compression" | "scratch" | "bandwidth" | "deadline" | "backoffLimit";
    expectTypeOf<Pick<BackupPolicy["spec"], Settings>>().toEqualTypeOf<Pick<VirtualMachineBackup["spec"], Settings>>();
  });

  test("know a condition's reasons by its type", () => {
    type Conditions = NonNullable<NonNullable<BackupRepository["status"]>["conditions"]>;
    type KeyReason = Extract<Conditions[number], { type: "KeyAvailable" }>["reason"];
    expectTypeOf<KeyReason>().toEqualTypeOf<"KeyMatches" | "NotEncrypted" | "NotChecked" | "KeyMissing" | "KeyUnreadable" | "WrongKey">();
  });
});
