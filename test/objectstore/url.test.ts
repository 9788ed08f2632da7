import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatS3Url, parseStoreUrl, StoreError } from "../../src/objectstore/index.ts";

const s3 = { kind: "s3", bucket: "backups", prefix: "", endpoint: null, region: null, pathStyle: false, at: null };

describe("repository URLs", () => {
  it.each([
    ["file:///srv/backups", { kind: "fs", path: "/srv/backups" }],
    ["file:///srv/with%20space/%C3%A4", { kind: "fs", path: "/srv/with space/ä" }],
    ["file:///srv/./a/../b//c", { kind: "fs", path: "/srv/b/c" }],
    ["s3://backups", s3],
    ["s3://backups/", s3],
    ["s3://backups/a/b", { ...s3, prefix: "a/b" }],
    ["s3://backups/a/b/?region=eu-central-1", { ...s3, prefix: "a/b", region: "eu-central-1" }],
    [
      "s3://backups?endpoint=http://h:9000&region=us-east-1",
      { ...s3, endpoint: "http://h:9000", region: "us-east-1", pathStyle: true, at: null },
    ],
    ["s3://backups?endpoint=https%3A%2F%2Fs3.example.org%2F", { ...s3, endpoint: "https://s3.example.org", pathStyle: true, at: null }],
    ["s3://backups?endpoint=https://[::1]:9000/s3&pathStyle=false", { ...s3, endpoint: "https://[::1]:9000/s3" }],
  ])("reads %s", (text, expected) => {
    expect(parseStoreUrl(text)).toEqual(expected);
  });

  it.each([
    "",
    "backups",
    "/srv/backups",
    "http://host/bucket",
    "file:/srv",
    "file://host/srv",
    "file:///srv?x=1",
    "file:///srv#x",
    "file:///srv/%2Fetc",
    "file:///srv/%zz",
    "file:///srv/%00",
    "s3:backups",
    "s3://",
    "s3:///prefix",
    "s3://ab",
    "s3://Backups",
    "s3://back_ups",
    "s3://back..ups",
    "s3://backups:9000/x",
    "s3://backups/a//b",
    "s3://backups/../b",
    "s3://backups/a b",
    "s3://backups/a%20b",
    "s3://backups#x",
    "s3://backups?x?y",
    "s3://backups?Region=us-east-1",
    "s3://backups?region=us-east-1&region=eu-west-1",
    "s3://backups?region=",
    "s3://backups?region=a/b",
    "s3://backups?pathStyle=yes",
    "s3://backups?endpoint=",
    "s3://backups?endpoint=host:9000",
    "s3://backups?endpoint=ftp://host",
    "s3://backups?endpoint=http://host:0",
    "s3://backups?endpoint=http://host:99999",
    "s3://backups?endpoint=http://host:port",
    "s3://backups?endpoint=http://host%3Fx=1",
    "s3://backups?endpoint=%ff",
    "s3://backups?&region=a",
    `s3://backups/${"x".repeat(3000)}`,
  ])("refuses %s", (text) => {
    expect(() => parseStoreUrl(text)).toThrow(expect.objectContaining({ code: "invalid-url" }) as StoreError);
  });

  it.each([
    "s3://AKIAKEY:hunter2secret@backups/x",
    "s3://backups?endpoint=http://user:hunter2secret@host:9000",
    "s3://backups?secretAccessKey=hunter2secret",
    "s3://backups?hunter2secret=x",
    "s3://backups?region=hunter2secret%ff",
  ])("refuses %s without repeating the secret", (text) => {
    try {
      parseStoreUrl(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(StoreError);
      expect(`${String(error)} ${(error as StoreError).hint}`).not.toContain("hunter2secret");
    }
  });

  it("throws StoreError or reads, whatever it is given", () => {
    const pieces = fc.constantFrom(
      "s3://",
      "file://",
      "/",
      "?",
      "&",
      "=",
      "#",
      "@",
      ":",
      "%",
      "%2",
      "%00",
      "..",
      "endpoint",
      "region",
      "pathStyle",
      "http://",
      "bkt",
      "[",
      "]",
      "\\",
      "9999",
    );
    const noise = fc.array(fc.oneof(pieces, fc.string({ unit: "binary", maxLength: 5 })), { maxLength: 14 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(
        fc.oneof(
          noise,
          noise.map((tail) => `s3://${tail}`),
          noise.map((tail) => `s3://bucket?endpoint=${tail}`),
          noise.map((tail) => `file:///${tail}`),
        ),
        (text) => {
          try {
            const location = parseStoreUrl(text);
            expect(["fs", "s3"]).toContain(location.kind);
            if (location.kind === "s3") expect(parseStoreUrl(formatS3Url(location))).toEqual(location);
          } catch (error) {
            if (!(error instanceof StoreError) || error.code !== "invalid-url") throw error;
          }
        },
      ),
      { numRuns: 3000 },
    );
  });

  it("reads back what it formats", () => {
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9-]{1,20}[a-z0-9]$/);
    const location = fc.record({
      kind: fc.constant("s3" as const),
      bucket: name,
      prefix: fc.array(name, { maxLength: 3 }).map((parts) => parts.join("/")),
      endpoint: fc.option(
        fc
          .tuple(fc.constantFrom("http", "https"), name, fc.integer({ min: 1024, max: 65_535 }))
          .map(([scheme, host, port]) => `${scheme}://${host.replace(/^\d/, "h")}x:${port}`),
      ),
      region: fc.option(name),
      pathStyle: fc.boolean(),
      at: fc.option(fc.date({ min: new Date(0), max: new Date("2099-12-31T00:00:00Z"), noInvalidDate: true })),
    });
    fc.assert(
      fc.property(location, (value) => {
        expect(parseStoreUrl(formatS3Url(value))).toEqual(value);
      }),
      { numRuns: 1000 },
    );
  });
});
