// The whole set-up: `npm test` and `npm run setup` begin with it, the demo and the soak with what they need of it. Plain JavaScript
// for Node 20 and later with nothing installed. Safe to repeat and to interrupt: what is there stays, what was half made is made again.
//
//   node test/setup.mjs            everything but e2e
//   node test/setup.mjs host s3    only these
//
// What cannot be made is one line here and a reason in .cache/lab/tiers.json, which the tests print when they skip.
// Only Node and the npm packages are needed in any case: without them the exit code is 1.
import { mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureCluster } from "./setup/cluster.mjs";
import { ensureE2e } from "./setup/e2e.mjs";
import { ensureGuest } from "./setup/guest.mjs";
import { ensureHost, ensurePeer } from "./setup/host.mjs";
import { ensureModules, ensureNode } from "./setup/node.mjs";
import { ensureReader } from "./setup/reader.mjs";
import { ensureS3, ensureVersitygw } from "./setup/s3.mjs";
import { ensureTrixie } from "./setup/trixie.mjs";
import { CannotDo, localCache, say } from "./setup/util.mjs";

const TIERS = {
  node: ensureNode,
  npm: ensureModules,
  s3: ensureS3,
  versitygw: ensureVersitygw,
  reader: ensureReader,
  cluster: ensureCluster,
  host: ensureHost,
  guest: ensureGuest,
  trixie: ensureTrixie,
  peer: ensurePeer,
  e2e: ensureE2e,
};
const REQUIRED = ["node", "npm"];
// These take the longest, and nearly all of it in the compiler: they run beside the rest, one after the other.
const COMPILED = ["reader", "s3", "versitygw", "cluster", "e2e"];
// It builds the image, so only who asks for it gets it.
const ON_REQUEST = ["e2e"];
const TABLE = join(localCache, "lab/tiers.json");

/**
 * Makes one tier where it is missing, and records how that went.
 * Gives `{ ok, reason, path? }`; never throws for what the machine lacks.
 */
export async function ensureTier(name) {
  if (!Object.hasOwn(TIERS, name)) throw new TypeError(`no such tier: ${name} (there are ${Object.keys(TIERS).join(", ")})`);
  let state;
  try {
    needMachine();
    const path = await TIERS[name]();
    state = { ok: true, reason: "", ...(path === undefined ? {} : { path }) };
  } catch (cause) {
    const reason = cause instanceof CannotDo ? cause.message : `unexpected: ${cause.stack}`;
    say(name, `not available: ${reason}`);
    state = { ok: false, reason };
  }
  record(name, state);
  return state;
}

function needMachine() {
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new CannotDo(`needs Linux on x86-64, not ${process.platform} on ${process.arch}`);
}

function record(name, state) {
  mkdirSync(join(localCache, "lab"), { recursive: true });
  let table = {};
  try {
    table = JSON.parse(readFileSync(TABLE, "utf8"));
  } catch {
    table = {}; // the first run, or a broken file: written anew
  }
  const next = `${TABLE}.${process.pid}`;
  writeFileSync(next, `${JSON.stringify({ ...table, [name]: state }, null, 2)}\n`);
  renameSync(next, TABLE);
}

async function main(names) {
  const wanted = names.length === 0 ? Object.keys(TIERS).filter((name) => !ON_REQUEST.includes(name)) : names;
  const states = new Map();
  const ensure = async (name) => states.set(name, await ensureTier(name));
  const inTurn = async (tiers) => {
    for (const name of tiers) await ensure(name);
  };
  await Promise.all([inTurn(wanted.filter((name) => COMPILED.includes(name))), inTurn(wanted.filter((name) => !COMPILED.includes(name)))]);
  const missing = [...states].filter(([, { ok }]) => !ok).map(([name]) => name);
  say(
    "done",
    missing.length === 0 ? `${wanted.join(", ")} ready` : `without ${missing.join(", ")} (their tests are skipped, with the reason)`,
  );
  return REQUIRED.some((name) => missing.includes(name)) ? 1 : 0;
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2));
}
