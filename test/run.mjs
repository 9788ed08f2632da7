// What `npm test` runs: the set-up, then every gate, then the tests, and one line with the counts at the end. Starts on Node 20.
//   npm test                     everything
//   npm test -- test/nbd         the test files whose path contains that, without the gates
//   THINSTREAM_TEST_FAST=1       the gates and the tests that start no other programs
//   --gates (npm run check)      the gates alone
//   --e2e (npm run e2e)          the tests of a real node, with our image, on a machine of their own: see docs/development.md
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const results = join(root, `.cache/test/results-${process.pid}.json`);
const localNode = join(root, ".cache/node/node_modules/.bin");
const args = process.argv.slice(2);
const gatesOnly = args.includes("--gates");
const e2e = args.includes("--e2e");
const filters = args.filter((arg) => !["--gates", "--e2e"].includes(arg));
const fast = process.env.THINSTREAM_TEST_FAST === "1";
const count = { passed: 0, failed: 0, skipped: 0 };
const failures = [];

const gates = [
  ["format", "prettier", "--check", "--log-level=warn", "."],
  ["lint", "oxlint", "--type-aware", "--deny-warnings"],
  ["types", "tsc", "-p", "tsconfig.json"],
  ["build", "tsc", "-p", "tsconfig.build.json"],
];

function say(text) {
  console.log(`\n== ${text}`);
}

/** Runs a program with its output passed through; resolves with its exit code, or the signal that ended it. */
function run(command, commandArgs, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, commandArgs, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
    child.once("error", (error) => {
      console.error(`cannot start ${command}: ${error.message}`);
      resolve(127);
    });
    child.once("exit", (code, signal) => resolve(code ?? signal));
  });
}

function tool(name, toolArgs, env) {
  return run(join(root, "node_modules/.bin", name), toolArgs, env);
}

function record(name, ok) {
  count[ok ? "passed" : "failed"] += 1;
  if (!ok) failures.push(name);
}

async function setUp() {
  const code = await run(process.execPath, ["test/setup.mjs", ...neededTiers()]);
  // Also when this process runs on an old Node, the tools run on the one the set-up fetched.
  if (Number(process.versions.node.split(".")[0]) < 24) process.env.PATH = `${localNode}${delimiter}${process.env.PATH}`;
  return code === 0;
}

/** Says what is set up; none named is everything. */
function neededTiers() {
  const minimal = gatesOnly || fast;
  say(
    minimal ? "set-up: Node and packages, which suffice for what starts no programs" : "set-up: everything the tests need (safe to repeat)",
  );
  if (minimal) return ["node", "npm"];
  return e2e ? ["node", "npm", "s3", "cluster", "host", "guest", "e2e"] : [];
}

async function runGates() {
  for (const [name, program, ...gateArgs] of gates) {
    const start = Date.now();
    say(`gate: ${name}`);
    if (name === "build") rmSync(join(root, "dist"), { recursive: true, force: true });
    const code = await tool(program, gateArgs);
    record(`gate ${name}`, code === 0);
    console.log(`${name}: ${code === 0 ? "ok" : `failed (${code})`}, ${((Date.now() - start) / 1000).toFixed(1)} s`);
  }
  say("gate: audit");
  record("gate audit", (await run(process.execPath, ["test/audit.mjs"])) === 0);
}

async function runTests() {
  say(
    `tests${fast ? ": THINSTREAM_TEST_FAST=1, so only those that start no other programs" : ""}${filters.length > 0 ? `: ${filters.join(" ")}` : ""}`,
  );
  mkdirSync(join(root, ".cache/test"), { recursive: true });
  // libvirt and NBD calls, files and cryptography wait in one pool of threads.
  const vitest = join(root, "node_modules/.bin/vitest");
  // The script is told when this process ends in any way, and takes away what it made.
  const [command, ...first] = e2e ? ["setpriv", "--pdeathsig", "TERM", "--", "sh", "test/e2e/enclose.sh", vitest] : [vitest];
  const code = await run(command, [...first, "run", "--reporter=default", "--reporter=json", `--outputFile.json=${results}`, ...filters], {
    UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? "16",
  });
  if (!existsSync(results)) return record("tests: no result", false);
  const before = count.failed;
  for (const file of JSON.parse(readFileSync(results, "utf8")).testResults) countFile(file);
  rmSync(results);
  // An error outside any test fails the run too.
  if (code !== 0 && count.failed === before) record(`tests: vitest ended with ${code}`, false);
  return undefined;
}

function countFile(file) {
  const path = file.name.replace(root, "");
  for (const { status, fullName } of file.assertionResults) {
    if (status === "passed" || status === "failed") record(`${path}: ${fullName}`, status === "passed");
    else count.skipped += 1;
  }
  // A file that cannot even be loaded, or whose set-up fails, has no failed test of its own.
  if (file.status === "failed" && !file.assertionResults.some(({ status }) => status === "failed"))
    record(`${path}: ${file.message.split("\n")[0]}`, false);
}

process.chdir(root);
if (await setUp()) {
  if (filters.length === 0 && !e2e) await runGates();
  if (!gatesOnly) await runTests();
} else {
  record("set-up", false);
}
if (failures.length > 0) {
  say("failed");
  for (const name of failures) console.log(`- ${name}`);
}
console.log(`\n${count.passed} passed, ${count.failed} failed${count.skipped > 0 ? `, ${count.skipped} skipped` : ""}`);
process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
