// A gate of `npm test`: what npm's registry knows to be wrong with the packages that users run. Every finding is either mended, or listed with the reason why
// it does not touch Thinstream in audit-allowed.json. A registry that answers no audits (a mirror, or no network) is said, and fails nothing.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Findings of `npm audit --json`, each advisory once; null where that is no audit. */
export function findingsOf(report) {
  if (typeof report?.vulnerabilities !== "object" || report.vulnerabilities === null) return null;
  const found = new Map();
  for (const { via } of Object.values(report.vulnerabilities)) {
    for (const one of via) {
      // A name stands for what is said of that package.
      if (typeof one === "string") continue;
      const id = one.url?.split("/").at(-1) ?? String(one.source);
      found.set(id, { id, package: one.name, severity: one.severity, title: one.title, range: one.range });
    }
  }
  return [...found.values()];
}

/** What is to be said, and whether the gate is passed. `allowed`: reasons by id of the advisory. */
export function judge(findings, allowed) {
  const line = (one) => `${one.id} ${one.package} ${one.range} (${one.severity}): ${one.title}`;
  const open = findings.filter(({ id }) => allowed[id] === undefined);
  const stale = Object.keys(allowed).filter((id) => !findings.some((one) => one.id === id));
  const lines = [
    ...open.map((one) => `NOT EXPLAINED ${line(one)}`),
    ...findings.filter(({ id }) => allowed[id] !== undefined).map((one) => `explained ${line(one)}: ${allowed[one.id]}`),
    ...stale.map((id) => `test/audit-allowed.json explains ${id}, which is not found any more: take it out`),
    ...(findings.length === 0 ? ["clean: npm knows nothing that is wrong with the packages of package-lock.json that users run"] : []),
  ];
  return { lines, ok: open.length === 0 && stale.length === 0 };
}

function audit() {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const run = spawnSync("npm", ["audit", "--omit=dev", "--json"], { cwd: root, encoding: "utf8", timeout: 120_000 });
  let report = null;
  try {
    report = JSON.parse(run.stdout);
  } catch {
    // Said below.
  }
  const findings = findingsOf(report);
  if (findings === null) {
    const why = report?.message ?? report?.error?.summary ?? run.error?.message ?? run.stderr;
    console.log(
      `audit: not done: the registry answers none here (${String(why).trim().split("\n")[0]}). Nothing is said of known vulnerabilities`,
    );
    return true;
  }
  const allowed = JSON.parse(readFileSync(new URL("audit-allowed.json", import.meta.url), "utf8"));
  const { lines, ok } = judge(findings, allowed);
  for (const one of lines) console.log(`audit: ${one}`);
  return ok;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = audit() ? 0 : 1;
