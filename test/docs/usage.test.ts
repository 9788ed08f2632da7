import { describe, expect, test } from "vitest";
import { lasting, rewritten, stale } from "../story/usage.ts";

const FENCE = "```";
const page = `Words.

${FENCE}yaml
# web.yaml
kind: RestoreRequest
${FENCE}

${FENCE}console
$ kubectl get rp
NAME                           READY   SIZE     AGE
web-20261121-162604-a5nbaqsb   True    305 MiB  60s
${FENCE}

More words.
`;
const web = { title: "web.yaml", text: "kind: RestoreRequest" };
const points = { title: "kubectl get rp", text: "NAME   READY   SIZE   AGE\nweb-20271121-000000-00000000   True   1 B   2d3h" };

describe("a page with what commands say", () => {
  test("is true wherever only times, ids, sizes and widths differ", () => {
    expect(stale(page, [web, points])).toEqual([]);
  });

  test("is stale where a column, a word or a field is another, or the command is not run at all", () => {
    expect(stale(page, [web, { ...points, text: points.text.replace("True", "False") }])).toHaveLength(1);
    expect(stale(page, [web, { ...points, text: points.text.replace("SIZE", "BYTES") }])).toHaveLength(1);
    expect(stale(page, [{ ...web, text: "kind: BackupPolicy" }, points])).toHaveLength(1);
    expect(stale(page, [web])).toEqual(["the story does not show this (so often): kubectl get rp"]);
  });

  test("is written anew with its own words kept", () => {
    const text = rewritten(page, [web, { ...points, text: "NAME\nother" }]);
    expect(text).toContain("$ kubectl get rp\nNAME\nother\n```\n\nMore words.\n");
    expect(text).toContain("Words.\n\n```yaml\n# web.yaml\nkind: RestoreRequest\n```\n");
    expect(stale(text, [web, { ...points, text: "NAME\nother" }])).toEqual([]);
  });

  test.each([
    ["nothing of a name", "gold-web web-copy web-undo", "gold-web web-copy web-undo"],
    ["a duration that somebody set", "keepWithin: 48hours", "keepWithin: 48hours"],
    ["the order of events", "Events:\n Normal B\n Normal A", "Events:\n Normal A\n Normal B"],
    ["not which point of a machine it is", "point 74fb5a56b439-2", "point ID-2"],
  ])("forgets %s", (_what, text, left) => {
    expect(lasting(text)).toBe(left);
  });
});
