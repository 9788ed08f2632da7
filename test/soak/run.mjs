// What `npm run soak` runs: the set-up, then the randomized test at length. Starts on Node 20.
import { spawnSync } from "node:child_process";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const env = { ...process.env };

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env });
  if (error !== undefined) console.error(`cannot start ${command}: ${error.message}`);
  return status ?? 1;
}

console.log("== set-up: everything the soak needs (safe to repeat)");
const code = run(process.execPath, ["test/setup.mjs", "node", "npm", "s3", "host", "guest", "trixie"]);
if (code !== 0) process.exit(code);
if (Number(process.versions.node.split(".")[0]) < 24) env.PATH = `${join(root, ".cache/node/node_modules/.bin")}${delimiter}${env.PATH}`;
process.exit(run("node", ["--disable-warning=ExperimentalWarning", "test/soak/soak.ts", ...process.argv.slice(2)]));
