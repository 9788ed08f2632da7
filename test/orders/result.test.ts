import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type AgentResult,
  ContractError,
  failedResult,
  failureReasons,
  formatAgentResult,
  isRetryable,
  MAX_RESULT_BYTES,
  parseAgentResult,
  type ResultDisk,
  type SucceededResult,
} from "../../src/api/index.ts";

// Everything that is long in JSON: escapes, surrogates alone and in pairs, several bytes a character.
const anyText = fc.oneof(
  fc.string({ maxLength: 3000 }),
  fc.string({ unit: "binary", maxLength: 3000 }),
  fc.constant("\u0000\uD83D".repeat(2000)),
);
const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const anyDisk: fc.Arbitrary<ResultDisk> = fc.record(
  {
    name: fc.string({ maxLength: 253 }),
    level: fc.constantFrom("full" as const, "incremental" as const),
    reason: anyText,
    size: count,
    dirtyBytes: count,
    zeroBytes: count,
    readBytes: count,
    uploadedBytes: count,
  },
  { requiredKeys: ["name", "level", "size", "dirtyBytes", "zeroBytes", "readBytes", "uploadedBytes"] },
);
const anySuccess: fc.Arbitrary<SucceededResult> = fc.record(
  {
    version: fc.constant(1 as const),
    outcome: fc.constant("Succeeded" as const),
    message: anyText,
    warnings: fc.array(anyText, { maxLength: 60 }),
    point: fc.record({
      id: fc.constant("0123456789ab-4294967295"),
      time: fc.constant("2026-11-21T12:00:00.000Z"),
      level: fc.constantFrom("full" as const, "differential" as const),
      consistency: fc.constantFrom("crash" as const, "filesystem" as const),
      found: fc.boolean(),
    }),
    totals: fc.record({ size: count, dirtyBytes: count, readBytes: count, uploadedBytes: count }),
    disks: fc.array(anyDisk, { maxLength: 256 }),
    points: count,
  },
  { requiredKeys: ["version", "outcome", "message", "warnings"] },
);
const anyFailure = fc.tuple(fc.constantFrom(...failureReasons), anyText).map(([reason, message]) => failedResult(reason, message));

describe("a result", () => {
  test("always fits a termination message, is always read back, and says what it left out", () => {
    fc.assert(
      fc.property(fc.oneof(anySuccess, anyFailure), (result: AgentResult) => {
        const text = formatAgentResult(result);
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MAX_RESULT_BYTES);
        const read = parseAgentResult(text);
        expect(read.outcome).toBe(result.outcome);
        if (read.outcome === "Failed" || result.outcome === "Failed") return;
        expect([read.point, read.totals, read.points]).toEqual([result.point, result.totals, result.points]);
        expect((read.disks?.length ?? 0) + (read.omitted?.disks ?? 0)).toBe(result.disks?.length ?? 0);
        expect(read.warnings.length + (read.omitted?.warnings ?? 0)).toBe(result.warnings.length);
      }),
      { numRuns: 300 },
    );
  });

  test("that is short comes out as it is", () => {
    const result: AgentResult = { version: 1, outcome: "Succeeded", message: "Done", warnings: ["a", "b"], points: 3 };
    expect(JSON.parse(formatAgentResult(result))).toEqual(result);
    const failed = failedResult("BucketFull", "There is no room");
    expect(JSON.parse(formatAgentResult(failed))).toEqual({
      version: 1,
      outcome: "Failed",
      reason: "BucketFull",
      message: "There is no room",
      retryable: false,
    });
  });

  test("of 256 disks keeps the first ones, the sums and the warnings", () => {
    const disk = (_: unknown, i: number): ResultDisk => ({
      name: `disk-${i}`,
      level: "full",
      size: 2 ** 40,
      dirtyBytes: 1,
      zeroBytes: 0,
      readBytes: 1,
      uploadedBytes: 1,
    });
    const disks = Array.from({ length: 256 }, disk);
    const text = formatAgentResult({
      version: 1,
      outcome: "Succeeded",
      message: "m",
      warnings: ["w"],
      totals: { size: 1, dirtyBytes: 2, readBytes: 3, uploadedBytes: 4 },
      disks,
    });
    const read = parseAgentResult(text) as SucceededResult;
    expect(read.disks?.length).toBeGreaterThan(25);
    expect(read.disks).toEqual(disks.slice(0, read.disks?.length));
    expect([read.warnings, read.omitted, read.totals?.uploadedBytes]).toEqual([
      ["w"],
      { disks: 256 - (read.disks?.length ?? 0), warnings: 0 },
      4,
    ]);
    // As much is kept as there is room for.
    expect(Buffer.byteLength(text)).toBeGreaterThan(MAX_RESULT_BYTES - 150);
  });

  test("of more disks than there is room for keeps their figures rather than the reasons they were read whole", () => {
    const disk = (reason: object) => (_: unknown, i: number): ResultDisk => ({
      name: `disk-${i}`,
      level: "full",
      ...reason,
      size: 1,
      dirtyBytes: 1,
      zeroBytes: 1,
      readBytes: 1,
      uploadedBytes: 1,
    }); // prettier-ignore
    const read = (length: number): SucceededResult => {
      const disks = Array.from({ length }, disk({ reason: "no earlier point tracks this disk's changes" }));
      return parseAgentResult(
        formatAgentResult({ version: 1, outcome: "Succeeded", message: "m", warnings: [], disks }),
      ) as SucceededResult;
    };
    expect(read(4).disks?.[3]?.reason).toBe("no earlier point tracks this disk's changes");
    expect([read(30).disks, read(30).omitted]).toEqual([Array.from({ length: 30 }, disk({})), undefined]);
  });

  test.each([
    "",
    "Killed",
    "{}",
    '{"version":1,"outcome":"Succeeded"}',
    '{"version":1,"outcome":"Failed","reason":"Bored","message":"","retryable":true}',
  ])("%j is none, and is refused as that", (text) => expect(() => parseAgentResult(text)).toThrow(ContractError));

  test("has a decision for every reason", () => {
    expect(failureReasons.filter((reason) => isRetryable(reason))).toEqual([
      "RepositoryUnreachable", "DomainNotFound", "HypervisorUnreachable", "AnotherJobActive", "GuestNotFrozen", "DiskInUse", "SourceLost",
      "ScratchFull", "TargetInUse", "Cancelled", "NotFetched", "Internal",
    ]); // prettier-ignore
  });
});
