// Completes package-lock.json: `npm run lock`. Run it after `npm install` has changed the file.
//
// npm leaves out of the lock file what it could not look up, and packages for other platforms are optional, so a registry mirror without
// them, or an npm that only looks at node_modules, silently makes a lock file that `npm ci` then refuses. Their versions are exact and their
// platform is in their name, so nothing has to be looked up. What is added carries no integrity hash and no machine of ours installs it.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const os = ["aix", "android", "darwin", "freebsd", "linux", "openharmony", "sunos", "win32"];
const cpu = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64"];
const libc = { gnu: "glibc", gnueabihf: "glibc", musl: "musl", musleabihf: "musl" };

/** The optional dependencies that have no entry in the lock file's `packages`: `{ path, version, dev }`. */
export function missing(packages) {
  const found = Object.entries(packages).flatMap(([owner, { optionalDependencies = {}, dev }]) =>
    Object.entries(optionalDependencies)
      .filter(([name]) => lookUp(packages, owner, name) === undefined)
      .map(([name, version]) => ({ path: `node_modules/${name}`, version, dev })),
  );
  return found.filter(({ path }, index) => found.findIndex((other) => other.path === path) === index);
}

function lookUp(packages, owner, name) {
  for (let place = owner; ; place = place.slice(0, Math.max(0, place.lastIndexOf("/node_modules/")))) {
    const entry = packages[`${place === "" ? "" : `${place}/`}node_modules/${name}`];
    if (entry !== undefined || place === "") return entry;
  }
}

function entryOf({ path, version, dev }) {
  if (!/^\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(version))
    throw new Error(`${path} is wanted as ${version}: not one version, so it has to be looked up`);
  const words = path.slice("node_modules/".length).split(/[/.-]/);
  const platform = { cpu: cpu.filter((one) => words.includes(one)), os: os.filter((one) => words.includes(one)) };
  if (words.includes("wasm32")) platform.os = [];
  else if (platform.os.length !== 1 || platform.cpu.length !== 1) throw new Error(`${path} does not name its platform`);
  const kind = words.map((word) => libc[word]).find((one) => one !== undefined);
  return {
    version,
    cpu: platform.cpu,
    ...(dev === true ? { dev: true } : {}),
    ...(kind !== undefined && platform.os.includes("linux") ? { libc: [kind] } : {}),
    optional: true,
    ...(platform.os.length > 0 ? { os: platform.os } : {}),
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const file = new URL("../package-lock.json", import.meta.url);
  const lock = JSON.parse(readFileSync(file, "utf8"));
  const added = missing(lock.packages);
  const all = { ...lock.packages, ...Object.fromEntries(added.map((one) => [one.path, entryOf(one)])) };
  lock.packages = Object.fromEntries(Object.entries(all).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
  console.log(`package-lock.json: ${added.length} packages for other platforms added`);
}
