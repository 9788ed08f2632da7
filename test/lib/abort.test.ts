import { describe, expect, test } from "vitest";
import { abortable, anySignal, TimeoutError, withTimeout } from "../../src/lib/abort.ts";

const never = new Promise<never>(() => undefined);

describe("withTimeout", () => {
  test("gives the result of work that is quick enough, and leaves no timer", async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    const before = timers();
    await expect(withTimeout({ ms: 60_000, what: "a sum" }, async () => 1 + 1)).resolves.toBe(2);
    expect(timers()).toBe(before);
  });

  test("says what took too long, even when the work ignores its signal", async () => {
    await expect(withTimeout({ ms: 20, what: "freezing vm1" }, () => never)).rejects.toThrow("freezing vm1 took longer than 20 ms");
    await expect(withTimeout({ ms: 20, what: "freezing vm1" }, () => never)).rejects.toBeInstanceOf(TimeoutError);
  });

  test("tells the work through its signal", async () => {
    let seen: unknown;
    const work = (signal: AbortSignal): Promise<never> => {
      signal.addEventListener("abort", () => (seen = signal.reason));
      return never;
    };
    await expect(withTimeout({ ms: 10, what: "it" }, work)).rejects.toBeInstanceOf(TimeoutError);
    expect(seen).toBeInstanceOf(TimeoutError);
  });

  test("rejects with the caller's reason when the caller aborts", async () => {
    const caller = new AbortController();
    const running = withTimeout({ ms: 60_000, what: "it", signal: caller.signal }, () => never);
    caller.abort(new Error("SIGTERM"));
    await expect(running).rejects.toThrow("SIGTERM");
    await expect(withTimeout({ ms: 60_000, what: "it", signal: caller.signal }, async () => 1)).rejects.toThrow("SIGTERM");
  });
});

describe("abortable", () => {
  test("swallows the failure of work that was left behind", async () => {
    const abort = new AbortController();
    const work = Promise.withResolvers<never>();
    const waiting = abortable(work.promise, abort.signal);
    abort.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    work.reject(new Error("too late"));
    await expect(work.promise).rejects.toThrow("too late");
  });

  test("passes results and failures through", async () => {
    const { signal } = new AbortController();
    await expect(abortable(Promise.resolve(7), signal)).resolves.toBe(7);
    await expect(abortable(Promise.reject(new Error("broken")), signal)).rejects.toThrow("broken");
    await expect(abortable(Promise.resolve(7), AbortSignal.abort(new Error("before")))).rejects.toThrow("before");
  });
});

test("anySignal aborts with the first reason and takes undefined for none", () => {
  const first = new AbortController();
  const both = anySignal(undefined, first.signal, new AbortController().signal);
  expect(both.aborted).toBe(false);
  first.abort(new Error("one"));
  expect(both.reason).toEqual(new Error("one"));
  expect(anySignal(undefined).aborted).toBe(false);
});
