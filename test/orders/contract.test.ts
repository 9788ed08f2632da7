import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ContractError, parseWorkOrder, type Work } from "../../src/api/index.ts";
import { anyWork, backupWork, changedAt, orderOf, type Place, placesOf, works } from "./order-values.ts";

function complaint(order: unknown): string {
  try {
    parseWorkOrder(JSON.stringify(order));
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(ContractError);
    return (thrown as ContractError).message;
  }
  return "";
}

/** A place as the sentence names it, as a pattern. */
function named(place: Place): string {
  return place.map((key, i) => (typeof key === "number" ? `\\[${key}\\]` : `${i === 0 ? "" : "\\."}${key}`)).join("");
}

describe("a work order", () => {
  test.each(works.map((work) => [work.type, work] as const))("of %s comes out as it was written", (_type, work) => {
    const order = orderOf(work);
    expect(parseWorkOrder(Buffer.from(JSON.stringify(order)))).toEqual(order);
  });

  test.each<[string, unknown, string]>([
    ["an unknown field", { ...orderOf(backupWork), note: 1 }, 'it has a field that is not of the contract: "note"'],
    ["an unknown field below", changedAt(orderOf(backupWork), ["work", "source", "socket"], () => "x"), "work.source has a field"],
    ["a missing field", changedAt(orderOf(backupWork), ["work", "vm", "name"], () => undefined), "work.vm.name is missing"],
    [
      "another work",
      orderOf({ type: "erase" } as unknown as Work),
      "work.type must be one of backup, catalog, check, forget, inspect, lock, prune, restore",
    ],
    [
      "another engine",
      changedAt(orderOf(backupWork), ["work", "source", "engine"], () => "tape"),
      "work.source.engine must be one of libvirt, image",
    ],
    ["another version", { ...orderOf(backupWork), version: 2 }, "is not of version 1"],
    ["a point that is no id", orderOf({ type: "inspect", point: "../config" }), "work.point must match pattern"],
    ["a member of a list", orderOf({ type: "forget", points: ["0123456789ab-1", "x"] }), "work.points[1] must match pattern"],
    [
      "a path that is not absolute",
      changedAt(orderOf(backupWork), ["work", "source", "scratchDir"], () => "tmp"),
      "work.source.scratchDir must match",
    ],
    [
      "a name that leads elsewhere",
      changedAt(orderOf(backupWork), ["work", "captures", 0, "name"], () => "../key"),
      "work.captures[0].name must match",
    ],
    ["a deadline that is no time", { ...orderOf(backupWork), deadline: "tomorrow" }, 'deadline must match format "date-time"'],
    ["a key of another length", { ...orderOf(backupWork), channel: { port: 1, key: "c2hvcnQ=" } }, "channel.key must match pattern"],
    ["a fraction", { ...orderOf(backupWork), uploadBytesPerSecond: 0.5 }, "uploadBytesPerSecond must be integer"],
    ["no object", [], "it"],
  ])("with %s is refused by a sentence that names it", (_what, order, words) => {
    expect(complaint(order)).toContain(words);
    expect(complaint(order)).toMatch(/^The work order is /);
  });

  test("what is not JSON is refused without being quoted", () => {
    const secret = orderOf(backupWork).channel.key;
    for (const text of ["", "{", `{"key": "${secret}" oops`, Buffer.from([0xff, 0xfe, 0x22])]) {
      expect(() => parseWorkOrder(text)).toThrow(new ContractError("not-json", "The work order is not JSON"));
    }
  });

  test("any field that goes, changes its type or is added is found, and nothing but a ContractError comes out", () => {
    // These may be null, or are maps and lists that may be empty.
    const free =
      /^(?:repository\.keyFile|work\.(?:vm\.uid|disks|excludeDisks|captures|source\.(?:diskNames|instanceUid))(?:\..*)?|.*\.format)$/;
    fc.assert(
      fc.property(anyWork, fc.nat(), fc.constantFrom("remove", "retype", "add"), (work, pick, how) => {
        const order = orderOf(work);
        const places = placesOf(order).filter((place) => !free.test(place.join(".")) && typeof place.at(-1) === "string");
        const place = places[pick % places.length] ?? [];
        const broken = changedAt(order, place, (member) => {
          if (how === "remove") return undefined;
          if (how === "retype") return typeof member === "string" ? 7 : "seven";
          return typeof member === "object" && member !== null && !Array.isArray(member) ? { ...member, surplus: true } : { surplus: true };
        });
        const said = complaint(broken);
        expect(said, `${how} ${place.join(".")}`).not.toBe("");
        // No value of the order is quoted, and the key least of all.
        expect(said).not.toContain(order.channel.key);
        if (how === "remove") expect(said).toMatch(new RegExp(`${named(place)} (?:is missing|must be one of)`));
      }),
      { numRuns: 500 },
    );
  });

  test("anything at all is an order or a ContractError", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.string(),
          anyWork.map((work) => JSON.stringify({ ...orderOf(work), run: null })),
        ),
        (text) => {
          expect(() => parseWorkOrder(text)).toThrow(ContractError);
        },
      ),
      { numRuns: 500 },
    );
  });
});
