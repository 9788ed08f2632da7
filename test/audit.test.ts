import { expect, test } from "vitest";

import { findingsOf, judge } from "./audit.mjs";

const advisory = {
  source: 1096366,
  name: "fast-xml-parser",
  dependency: "fast-xml-parser",
  title: "made up for this test",
  url: "https://github.com/advisories/GHSA-aaaa-bbbb-cccc",
  severity: "high",
  range: "<4.2.4",
};
const report = {
  auditReportVersion: 2,
  vulnerabilities: {
    "fast-xml-parser": { name: "fast-xml-parser", severity: "high", via: [advisory] },
    "@aws-sdk/client-s3": { name: "@aws-sdk/client-s3", severity: "high", via: ["fast-xml-parser"] },
  },
};

test("an audit's findings fail the gate until they are explained, and an explanation until it is taken out again", () => {
  const findings = findingsOf(report) ?? [];
  expect(findings.map(({ id }) => id)).toEqual(["GHSA-aaaa-bbbb-cccc"]);
  expect(judge(findings, {})).toMatchObject({ ok: false, lines: [expect.stringMatching(/^NOT EXPLAINED GHSA-aaaa-bbbb-cccc/)] });
  const reason = "no XML of strangers is parsed";
  expect(judge(findings, { "GHSA-aaaa-bbbb-cccc": reason })).toMatchObject({ ok: true, lines: [expect.stringContaining(reason)] });
  expect(judge([], { "GHSA-aaaa-bbbb-cccc": reason }).ok).toBe(false);
  expect(judge(findingsOf({ vulnerabilities: {} }) ?? [], {})).toMatchObject({ ok: true, lines: [expect.stringMatching(/^clean/)] });
});

test("what is no audit counts as none: a registry that does not answer, or an error of npm's", () => {
  expect([null, {}, { error: { summary: "" }, message: "405" }, { vulnerabilities: null }].map(findingsOf)).toEqual([
    null,
    null,
    null,
    null,
  ]);
});
