// What `npm run demo` and `npm run demo:cli` run: the set-up of what they need, then the story. Starts on Node 20.
import { spawnSync } from "node:child_process";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const env = { ...process.env };
const [which = "operator"] = process.argv.slice(2);
const demos = {
  operator: { file: "test/demo/operator.ts", tiers: ["cluster", "s3", "host", "guest", "trixie"] },
  cli: { file: "test/demo/cli.ts", tiers: ["s3", "host", "guest", "trixie"] },
};

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env });
  if (error !== undefined) console.error(`cannot start ${command}: ${error.message}`);
  return status ?? 1;
}

const demo = demos[which];
if (demo === undefined) {
  console.error(`there is no demo ${which}: there are ${Object.keys(demos).join(" and ")}`);
  process.exit(2);
}
console.log("== set-up: everything the demo needs (safe to repeat)");
const code = run(process.execPath, ["test/setup.mjs", "node", "npm", ...demo.tiers]);
if (code !== 0) process.exit(code);
if (Number(process.versions.node.split(".")[0]) < 24) env.PATH = `${join(root, ".cache/node/node_modules/.bin")}${delimiter}${env.PATH}`;
process.exit(run("node", ["--disable-warning=ExperimentalWarning", demo.file]));
