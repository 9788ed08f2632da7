import { afterEach, describe, expect, test } from "vitest";
import { ThinstreamError } from "../../src/lib/errors.ts";
import { InvalidValueError } from "../../src/lib/invalid-value.ts";
import { createLogger } from "../../src/lib/log.ts";
import { hideValue, scrub, scrubText } from "../../src/lib/scrub.ts";

class SampleError extends ThinstreamError<"sample"> {
  readonly $response: object = { headers: { authorization: "AWS4 hunter2" } };

  constructor() {
    super("sample", "could not reach s3://AKIA:hunter2@bucket", { hint: "try later", cause: new Error("socket closed") });
  }
}

function collect(): { lines: string[]; write: (line: string) => void } {
  const lines: string[] = [];
  return { lines, write: (line) => void lines.push(line) };
}

const before = process.env["THINSTREAM_LOG"];
afterEach(() => {
  if (before === undefined) delete process.env["THINSTREAM_LOG"];
  else process.env["THINSTREAM_LOG"] = before;
});

describe("createLogger", () => {
  test("writes one JSON object a line, without any secret in it", () => {
    delete process.env["THINSTREAM_LOG"];
    const to = collect();
    const log = createLogger({ to }).child({ vm: "web", secretAccessKey: "hunter2" });
    const fields = { key: "packs/0a", masterKey: new Uint8Array(32).fill(7), nested: { "x-amz-security-token": "hunter2" }, size: 5n };
    log.warn({ ...fields, err: new SampleError() }, "put https://u:hunter2@host/b?X-Amz-Signature=hunter2&part=1 failed");
    expect(to.lines).toHaveLength(1);
    expect(to.lines[0]).not.toContain("hunter2");
    expect(JSON.parse(to.lines[0] ?? "")).toMatchObject({
      level: "warn",
      vm: "web",
      key: "packs/0a",
      masterKey: "[32 bytes]",
      size: "5",
      err: { code: "sample", hint: "try later", cause: { message: "socket closed" } },
      msg: "put https://[hidden]@host/b?X-Amz-Signature=[hidden]&part=1 failed",
    });
  });

  test("THINSTREAM_LOG decides the level and must name one", () => {
    process.env["THINSTREAM_LOG"] = "error";
    const to = collect();
    const log = createLogger({ level: "debug", to });
    log.warn({}, "not said");
    log.error({}, "said");
    expect(to.lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(["said"]);
    process.env["THINSTREAM_LOG"] = "loud";
    expect(() => createLogger()).toThrow(InvalidValueError);
  });
});

describe("scrub", () => {
  test("is bounded and survives values that contain themselves", () => {
    const loop: Record<string, unknown> = { wide: Array.from({ length: 5000 }, (_, index) => index) };
    loop["self"] = loop;
    expect(JSON.stringify(scrub(loop)).length).toBeLessThan(10_000);
  });

  test("leaves ordinary text alone", () => {
    for (const text of ["qemu:///system?socket=/tmp/x/libvirt-sock", "file:///srv/repo", "point 3f2a of vda@nightly"])
      expect(scrubText(text)).toBe(text);
  });
});

test("a secret's value is hidden wherever it stands, the latest ones at least", () => {
  hideValue("correct horse battery");
  expect(scrubText("said correct horse battery, twice: correct horse battery")).toBe("said [hidden], twice: [hidden]");
  expect(scrub({ err: new Error("the correct horse battery") })).toMatchObject({ err: { message: "the [hidden]" } });
  // What is short would hide half of any text.
  hideValue("a");
  hideValue(undefined);
  expect(scrubText("a cat")).toBe("a cat");
  for (let i = 0; i < 31; i++) hideValue(`another secret, number ${i}`);
  expect(scrubText("correct horse battery")).toBe("[hidden]");
  hideValue("one more than are kept");
  expect(scrubText("correct horse battery")).toBe("correct horse battery");
});
