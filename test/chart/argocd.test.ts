import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { checkout, run, tempDir } from "../lab/index.ts";

const LUA = "lua5.4";
const hasLua = await run(LUA, ["-v"]).then(
  () => true,
  () => false,
);
if (!hasLua) process.stderr.write("skipped: the health checks of docs/gitops.md: lua5.4 (Debian: apt install lua5.4) is not on PATH\n");

/** A value as Lua writes it; null as Argo CD gives it: not at all. */
function lua(value: unknown): string {
  if (Array.isArray(value)) return `{${value.map(lua).join(", ")}}`;
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .map(([key, one]) => `[${JSON.stringify(key)}] = ${lua(one)}`)
      .join(", ")}}`;
  return value === undefined || value === null ? "nil" : JSON.stringify(value);
}

const said = (type: string, status: string, message: string = "why"): object => ({ type, status, message });

describe.skipIf(!hasLua)("the health checks of docs/gitops.md", () => {
  let checks: Readonly<Record<string, string>>;
  beforeAll(() => {
    const page = readFileSync(join(checkout(), "docs/gitops.md"), "utf8");
    const block = [...page.matchAll(/```yaml\n([^`]*)```/g)].map(([, text]) => text ?? "").find((text) => text.includes("argocd-cm")) ?? "";
    checks = (parse(block) as { data: Record<string, string> }).data;
  });

  async function health(kind: string, object: object): Promise<string> {
    const check = checks[`resource.customizations.health.thinstream.dev_${kind}`];
    expect(check, `there is a check for ${kind}`).toBeDefined();
    const file = join(tempDir("argocd"), "check.lua");
    writeFileSync(
      file,
      `local function check(obj)\n${check}\nend\nlocal hs = check(${lua(object)})\nprint(hs.status .. ": " .. hs.message)\n`,
    );
    return (await run(LUA, [file])).trim();
  }

  test("cover every kind", () => {
    expect(Object.keys(checks)).toHaveLength(5);
  });

  test.each<[string, object, string]>([
    ["BackupRepository", {}, "Progressing: It was not looked at yet"],
    ["BackupRepository", { status: { conditions: [said("Ready", "True")] } }, "Healthy: why"],
    ["BackupRepository", { status: { conditions: [said("Ready", "False")] } }, "Degraded: why"],
    ["BackupRepository", { status: { conditions: [said("Ready", "Unknown")] } }, "Progressing: why"],
    [
      "BackupRepository",
      { status: { observedGeneration: 1, conditions: [said("Ready", "True")] } },
      "Progressing: Its last change was not looked at yet",
    ],
    ["BackupPolicy", { status: { conditions: [said("Ready", "True")] } }, "Healthy: why"],
    ["BackupPolicy", { status: { conditions: [said("Protected", "False", "late"), said("Ready", "True")] } }, "Degraded: late"],
    ["BackupPolicy", { status: { conditions: [said("Ready", "False"), said("Protected", "False", "late")] } }, "Degraded: why"],
    ["BackupPolicy", { spec: { suspend: true }, status: { conditions: [said("Ready", "True")] } }, "Suspended: why"],
    ["RestorePoint", { status: { conditions: [said("Ready", "True")] } }, "Healthy: why"],
    ["VirtualMachineBackup", {}, "Progressing: It has not begun"],
    ["VirtualMachineBackup", { status: { conditions: [said("Succeeded", "Unknown")] } }, "Progressing: why"],
    ["VirtualMachineBackup", { status: { conditions: [said("Succeeded", "True")] } }, "Healthy: why"],
    ["RestoreRequest", { status: { conditions: [said("Succeeded", "False")] } }, "Degraded: why"],
    [
      "RestoreRequest",
      { status: { conditions: [said("Stalled", "True", "stop it first"), said("Succeeded", "Unknown")] } },
      "Degraded: stop it first",
    ],
  ])("%s %j", async (kind, object, wanted) => {
    expect(await health(kind, { metadata: { generation: 2 }, spec: {}, ...object })).toBe(wanted);
  });
});
