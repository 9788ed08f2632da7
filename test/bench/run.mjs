// What `npm run bench` runs: the set-up, a build of its own below .cache/bench, then the measurements. Starts on Node 20.
//   --row N       only this row (again for more); the others stay as they were measured before
//   --runs N      measured runs of each side after one warm-up; default 5
//   --size GiB    data of the virtual machine; default 5, less where memory does not suffice
//   --profile     only where our own time goes: docs/benchmarks.md shows it beside the rows
//   --page        only write docs/benchmarks.md from what was measured last
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const app = join(root, ".cache/bench/app");
const args = process.argv.slice(2);

function run(command, commandArgs) {
  const { status, error } = spawnSync(command, commandArgs, { cwd: root, stdio: "inherit" });
  if (error !== undefined) console.error(`cannot start ${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/** The command line as an installed package has it: built, so that both sides start as fast as their users see them start. */
function build() {
  rmSync(app, { recursive: true, force: true });
  mkdirSync(join(app, "src/cli"), { recursive: true });
  run("node", [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json", "--outDir", join(app, "dist")]);
  copyFileSync(join(root, "package.json"), join(app, "package.json"));
  copyFileSync(join(root, "src/cli/thinstream.sh"), join(app, "src/cli/thinstream.sh"));
  symlinkSync(join(root, "node_modules"), join(app, "node_modules"));
}

console.log("== set-up: everything the benchmark needs (safe to repeat)");
run(process.execPath, ["test/setup.mjs", "node", "npm", ...(args.includes("--page") ? [] : ["host", "s3", "peer"])]);
if (Number(process.versions.node.split(".")[0]) < 24)
  process.env.PATH = `${join(root, ".cache/node/node_modules/.bin")}${delimiter}${process.env.PATH}`;
if (!args.includes("--page")) {
  console.log("== build");
  build();
}
run("node", ["--disable-warning=ExperimentalWarning", "test/bench/bench.ts", ...args]);
