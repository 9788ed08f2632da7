// Debian packages, only those that are missing.
import { CannotDo, has, outputOf, run, say } from "./util.mjs";

const QUIET = { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
const OPTIONS = ["-y", "-q", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confold"];
let turn = Promise.resolve();

/** Installs what is missing of the packages; one installation at a time. Throws CannotDo. */
export function ensurePackages(tier, packages) {
  const mine = turn.then(() => install(tier, packages));
  turn = mine.catch(() => undefined);
  return mine;
}

async function install(tier, packages) {
  const missing = packages.filter((name) => !outputOf("dpkg-query", ["-W", "-f", "${db:Status-Status}", name]).startsWith("installed"));
  if (missing.length === 0) return;
  if (!has("apt-get")) throw new CannotDo(`apt-get is not here; install by hand: ${missing.join(" ")}`);
  if (process.getuid() !== 0) throw new CannotDo(`needs root to install ${missing.join(" ")}`);
  await refreshLists(tier);
  say(tier, `installing Debian packages: ${missing.join(" ")}`);
  const command = ["install", "--no-install-recommends", ...OPTIONS, ...missing];
  try {
    await run({ tier, what: "apt-get install" }, "apt-get", command, { env: QUIET });
  } catch (cause) {
    if (!(cause instanceof CannotDo) || !cause.message.includes("dpkg was interrupted")) throw cause;
    const finish = ["--force-confold", "--configure", "-a"];
    await run({ tier, what: "dpkg --configure -a, to finish an interrupted installation" }, "dpkg", finish, { env: QUIET });
    await run({ tier, what: "apt-get install" }, "apt-get", command, { env: QUIET });
  }
}

/** The package lists are fetched once in a set-up. */
let lists;
function refreshLists(tier) {
  lists ??= run({ tier, what: "apt-get update" }, "apt-get", ["update", ...OPTIONS], { env: QUIET });
  return lists;
}

/**
 * Downloads packages to a directory without installing them. `names` is asked again after the package lists have been fetched anew; it gives
 * undefined where they do not say. Throws CannotDo.
 */
export async function downloadPackages(tier, dir, names) {
  const fetch = (packages) =>
    run({ tier, what: `downloading ${packages.join(" ")}` }, "apt-get", ["download", "-q", ...packages], { cwd: dir });
  const known = names();
  try {
    if (known !== undefined) return await fetch(known);
  } catch (cause) {
    if (!(cause instanceof CannotDo)) throw cause;
  }
  say(tier, "the package lists are old");
  await refreshLists(tier);
  const packages = names();
  if (packages === undefined) throw new CannotDo("the package lists do not have the packages that it needs");
  return await fetch(packages);
}
