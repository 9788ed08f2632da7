import { describe, expect, test } from "vitest";
import { bitmapDoubt, type BitmapFacts, bitmapFacts } from "../../../src/controller/plan/kubevirt/bitmap-doubt.ts";
import { planSource } from "../../../src/controller/plan/kubevirt/source.ts";
import { running, vmOf } from "./machine.ts";

const now: BitmapFacts = { claims: { root: "c1", data: "c2" }, instanceUid: "i1", kubevirtRestore: null, ourRestore: null };

function doubts(before: Partial<BitmapFacts> | null, watchedStop: boolean = false): string[] {
  return bitmapDoubt(before === null ? null : { ...now, ...before }, now, watchedStop).map(({ volume, reason }) => `${volume} ${reason}`);
}

describe("bitmaps", () => {
  test("are believed while nothing that they rest on has changed", () => {
    expect(doubts({})).toEqual([]);
  });

  test.each<[string, Partial<BitmapFacts> | null, string[]]>([
    ["a claim of the same name that is another", { claims: { root: "c0", data: "c2" } }, ["root ClaimReplaced"]],
    ["a disk that is new has no bitmap to doubt", { claims: { root: "c1" } }, []],
    ["a restore by KubeVirt", { kubevirtRestore: "r" }, ["root RestoredByKubevirt", "data RestoredByKubevirt"]],
    ["a restore of ours, into the claims as they are", { ourRestore: "r" }, ["root RestoredInPlace", "data RestoredInPlace"]],
    ["a stop", { instanceUid: "i0" }, ["root UnexplainedStop", "data UnexplainedStop"]],
    ["a point of a stopped machine", { instanceUid: null }, ["root UnexplainedStop", "data UnexplainedStop"]],
    ["a point that says nothing", null, ["root NothingKnown", "data NothingKnown"]],
  ])("%s", (_what, before, expected) => {
    expect(doubts(before)).toEqual(expected);
  });

  test("survive a stop that the controller watched, and nothing else", () => {
    expect(doubts({ instanceUid: "i0" }, true)).toEqual([]);
    expect(doubts({ instanceUid: "i0", ourRestore: "r" }, true)).toEqual(["root RestoredInPlace", "data RestoredInPlace"]);
  });

  test("rest on what the objects say", () => {
    const decision = planSource(running(), { exclude: [], kubeletRoot: "/k" });
    const disks = decision.kind === "ready" ? decision.source.disks : [];
    const annotations = { "restore.kubevirt.io/lastRestoreUID": "kv", "thinstream.dev/last-restore": "ts" };
    expect(bitmapFacts(vmOf([], {}, { metadata: { name: "web", annotations } }), running().vmi, disks)).toEqual({
      claims: { root: "claim-root" },
      instanceUid: "vmi-uid",
      kubevirtRestore: "kv",
      ourRestore: "ts",
    });
  });
});
