import { expect, test } from "vitest";

import type { VirtualMachineBackup } from "../../src/api/index.ts";
import { Claims } from "../../src/controller/backup/admission.ts";
import { backup, condition, listersOf } from "./serve/scene.ts";

const START = Date.UTC(2026, 10, 21, 12);

function asked(name: string, status?: VirtualMachineBackup["status"]): VirtualMachineBackup {
  const run = backup(name, status);
  return { ...run, metadata: { ...run.metadata, uid: name }, spec: { ...run.spec, source: { virtualMachine: { name: "web" } } } };
}

test("of two runs of one machine that may begin at the same moment one does; the other when that is done, gone, or long known", () => {
  const claims = new Claims();
  const [one, other] = [asked("one"), asked("other")];
  const take = (run: VirtualMachineBackup, seconds: number, known: readonly VirtualMachineBackup[] = [one, other]): boolean =>
    claims.take({ caches: listersOf({ backups: known }) as never, now: () => new Date(START + seconds * 1000) }, run);
  expect([take(one, 0), take(other, 0), take(one, 20), take(other, 49)]).toEqual([true, false, true, false]);
  expect(take(other, 51)).toBe(true);
  expect(take(one, 60)).toBe(false);
  // Another run of the same name is another run.
  const again = { ...other, metadata: { ...other.metadata, uid: "another" } };
  expect(take(one, 61, [one, again])).toBe(true);
  const done = asked("one", { conditions: [condition("Succeeded", "True")] } as never);
  expect(take(other, 62, [done, other])).toBe(true);
  expect(take(one, 63, [one])).toBe(true);
});
