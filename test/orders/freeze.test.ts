import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { SourceError } from "../../src/agent/index.ts";
import { type Freezer, type FreezeReport, type Frozen, type Quiesce, whileFrozen } from "../../src/agent/libvirt-pull/freeze.ts";
import { Board } from "../../src/agent/orders/board.ts";
import { ControllerFreezer } from "../../src/agent/orders/controller-freezer.ts";

const never = new AbortController().signal;

/** A run of `whileFrozen` as a list of what happened, in order, and how it ended. */
async function take(
  freezer: Freezer,
  quiesce: Quiesce,
  begin: () => Promise<void> = async () => undefined,
): Promise<[string[], FreezeReport | SourceError]> {
  const happened: string[] = [];
  const recorded: Freezer = {
    obstacle: async () => await freezer.obstacle(),
    freeze: async () => {
      happened.push("freeze");
      return await freezer.freeze();
    },
    thaw: async () => {
      happened.push("thaw");
      return await freezer.thaw();
    },
  };
  const steps = { onFrozen: async () => void happened.push("frozen"), onThawed: async () => void happened.push("thawed") };
  const ended = await whileFrozen(recorded, quiesce, steps, async () => {
    happened.push("begin");
    await begin();
  }).catch((thrown: unknown) => thrown as SourceError);
  return [happened, ended];
}

function scripted(parts: { obstacle?: string; frozen?: Frozen | Error; thaw?: number | null | Error }): Freezer {
  const { obstacle = null, frozen = { fileSystems: 2, until: null }, thaw = 2 } = parts;
  const given = <T>(value: T | Error): Promise<T> => (value instanceof Error ? Promise.reject(value) : Promise.resolve(value));
  return { obstacle: async () => obstacle, freeze: async () => await given(frozen), thaw: async () => await given(thaw) };
}

describe("the instant, whoever freezes", () => {
  test("is file-system-consistent where the guest was frozen for it", async () => {
    for (const fileSystems of [2, null]) {
      const [happened, report] = await take(scripted({ frozen: { fileSystems, until: performance.now() + 60_000 } }), "required");
      expect(happened).toEqual(["freeze", "frozen", "begin", "thaw", "thawed"]);
      expect(report).toMatchObject({ consistency: "filesystem", frozen: fileSystems, thawed: 2, problem: null, obstacle: null });
    }
  });

  test("a freeze that ended too early makes it crash-consistent, or fails where it is required, thawed either way", async () => {
    const early = (): Freezer => scripted({ frozen: { fileSystems: null, until: performance.now() + 20 } });
    const slow = async (): Promise<void> => await sleep(40);
    const [happened, report] = await take(early(), "auto", slow);
    expect(happened).toEqual(["freeze", "frozen", "begin", "thaw", "thawed"]);
    expect(report).toMatchObject({ consistency: "crash", problem: expect.stringContaining("thawed again before") });
    const [, refused] = await take(early(), "required", slow);
    expect(refused).toMatchObject({ name: "SourceError", code: "freeze-failed" });
    // Already over before anything began: then nothing begins.
    const [before, over] = await take(scripted({ frozen: { fileSystems: 1, until: performance.now() - 1 } }), "required");
    expect([before, over]).toMatchObject([["freeze", "frozen", "thaw"], { code: "freeze-failed" }]);
  });

  test("an obstacle or a failure is said, or fails where freezing is required, before anything begins", async () => {
    const [happened, report] = await take(scripted({ obstacle: "the machine is paused" }), "auto");
    expect([happened, report]).toMatchObject([["begin"], { consistency: "crash", obstacle: "the machine is paused", problem: null }]);
    expect(await take(scripted({ obstacle: "the machine is paused" }), "required")).toMatchObject([[], { code: "freeze-failed" }]);
    expect(await take(scripted({ obstacle: "x" }), "never")).toMatchObject([["begin"], { consistency: "crash", obstacle: null }]);
    const broken = scripted({ frozen: new Error("no agent") });
    expect(await take(broken, "auto")).toMatchObject([
      ["freeze", "begin", "thaw", "thawed"],
      { consistency: "crash", problem: "no agent" },
    ]);
    expect(await take(broken, "required")).toMatchObject([
      ["freeze", "thaw"],
      { code: "freeze-failed", message: expect.stringContaining("no agent") },
    ]);
  });

  test("a guest that cannot be thawed is said, and a job that cannot begin thaws it", async () => {
    expect(await take(scripted({ thaw: new Error("gone") }), "auto")).toMatchObject([
      ["freeze", "frozen", "begin", "thaw", "thawed"],
      { consistency: "crash", problem: "the guest could not be thawed: gone" },
    ]);
    const failing = async (): Promise<void> => await Promise.reject(new SourceError("busy", "another one"));
    expect(await take(scripted({}), "auto", failing)).toMatchObject([["freeze", "frozen", "begin", "thaw"], { code: "busy" }]);
  });
});

describe("the controller as freezer", () => {
  test("sees Freeze, answers, and sees Begun when it is to thaw", async () => {
    const board = new Board();
    const asked = new ControllerFreezer(board, { ms: 5000, signal: never });
    expect(asked.answered({ ok: true, remainingMs: 1 })).toBe(false);
    const controller = (async () => {
      await board.changed("Starting", 5000, never);
      expect(board.progress.phase).toBe("Freeze");
      expect(asked.answered({ ok: true, remainingMs: 60_000 })).toBe(true);
      // The same answer again, of a controller that began anew, is taken as long as the guest is to stay frozen.
      expect(asked.answered({ ok: true, remainingMs: 60_000 })).toBe(true);
    })();
    const [happened, report] = await take(asked, "required");
    await controller;
    expect(asked.answered({ ok: true, remainingMs: 60_000 })).toBe(false);
    expect(happened).toEqual(["freeze", "frozen", "begin", "thaw", "thawed"]);
    expect([report, board.progress.phase]).toMatchObject([{ consistency: "filesystem", frozen: null, thawed: null }, "Begun"]);
  });

  test("that says no, or nothing in time, leaves a crash-consistent point or none", async () => {
    const refusing = new Board();
    const asked = new ControllerFreezer(refusing, { ms: 5000, signal: never });
    void refusing.changed("Starting", 5000, never).then(() => asked.answered({ ok: false, message: "the guest agent is not connected" }));
    expect(await take(asked, "auto")).toMatchObject([
      expect.anything(),
      { consistency: "crash", problem: "the guest agent is not connected" },
    ]);
    const silent = new Board();
    const late = new ControllerFreezer(silent, { ms: 30, signal: never });
    expect(await take(late, "required")).toMatchObject([
      ["freeze", "thaw"],
      { code: "freeze-failed", message: expect.stringContaining("took longer than 30 ms") },
    ]);
    expect([late.answered({ ok: true, remainingMs: 1000 }), silent.progress.phase]).toEqual([false, "Begun"]);
  });

  test("is not waited for any longer when the run ends", async () => {
    const ended = new AbortController();
    const asked = new ControllerFreezer(new Board(), { ms: 60_000, signal: ended.signal });
    const frozen = asked.freeze();
    ended.abort(new Error("cancelled"));
    await expect(frozen).rejects.toThrow("cancelled");
  });
});
