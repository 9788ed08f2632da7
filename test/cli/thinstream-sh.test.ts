import { spawn, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";

const launcher = join(import.meta.dirname, "../../src/cli/thinstream.sh");
const scratch = mkdtempSync(join(tmpdir(), "thinstream-sh-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const report = `console.log(JSON.stringify({ file: import.meta.filename, args: process.argv.slice(2), cwd: process.cwd(), pid: process.pid, env: process.env }));`;
let root: string;

function plant(path: string, content: string): string {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

/** A PATH with the tools a shell needs, without Node, and then what is given. */
function pathWith(...programs: readonly (readonly [name: string, script: string])[]): string {
  for (const [name, script] of programs) chmodSync(plant(`bin/${name}`, `#!/bin/sh\n${script}\n`), 0o755);
  for (const tool of ["sh", "readlink", "dirname", "uname", "mkdir"]) {
    const real = ["/bin", "/usr/bin"].map((folder) => join(folder, tool)).find((file) => existsSync(file));
    if (real !== undefined) symlinkSync(real, join(root, "bin", tool));
  }
  return join(root, "bin");
}

function run(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
  cwd = root,
): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(file, args, { env, cwd, encoding: "utf8" });
}

beforeEach(() => {
  root = mkdtempSync(join(scratch, "tree-"));
  mkdirSync(join(root, "src/cli"), { recursive: true });
  mkdirSync(join(root, "bin"));
  copyFileSync(launcher, join(root, "src/cli/thinstream.sh"));
  plant("package.json", '{"type":"module"}');
});

describe("thinstream.sh", () => {
  test("runs the sources of a checkout with the arguments as they are, and threads and malloc set", () => {
    plant("src/cli/main.ts", `const note: string = "typed";\n${report}`);
    plant("dist/cli/main.js", report);
    const { MALLOC_ARENA_MAX: _, ...env } = process.env;
    const result = run(join(root, "src/cli/thinstream.sh"), ["a b", "", "--x=$HOME"], { ...env, UV_THREADPOOL_SIZE: "7" });
    expect(result.stderr).toBe("");
    expect(JSON.parse(result.stdout)).toMatchObject({
      file: join(root, "src/cli/main.ts"),
      args: ["a b", "", "--x=$HOME"],
      env: { UV_THREADPOOL_SIZE: "7", MALLOC_ARENA_MAX: "4", MALLOC_MMAP_THRESHOLD_: "33554432" },
    });
  });

  test("runs the build of an installed package, also through a chain of links", () => {
    plant("dist/cli/main.js", report);
    symlinkSync("../src/cli/thinstream.sh", join(root, "bin/one"));
    symlinkSync(join(root, "bin/one"), join(root, "thinstream"));
    const result = run(join(root, "thinstream"), ["points"]);
    expect(JSON.parse(result.stdout)).toMatchObject({ file: join(root, "dist/cli/main.js"), args: ["points"] });
  });

  test("THINSTREAM_DIST=1 picks the build in a checkout, and says so where there is none", () => {
    plant("src/cli/main.ts", report);
    const env = { ...process.env, THINSTREAM_DIST: "1" };
    const missing = run(join(root, "src/cli/thinstream.sh"), [], env);
    expect(missing).toMatchObject({ status: 1, stdout: "" });
    expect(missing.stderr).toBe(`thinstream: ${root}/dist/cli/main.js is missing: run 'npm run build'\n`);
    plant("dist/cli/main.js", report);
    expect(JSON.parse(run(join(root, "src/cli/thinstream.sh"), [], env).stdout)).toMatchObject({ file: join(root, "dist/cli/main.js") });
  });

  test("becomes Node, so that signals and exit codes are Node's own", async () => {
    plant("src/cli/main.ts", `process.on("SIGTERM", () => process.exit(42));\nsetInterval(() => undefined, 1000);\n${report}`);
    const child = spawn(join(root, "src/cli/thinstream.sh"), { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    expect(JSON.parse(line.toString())).toMatchObject({ pid: child.pid });
    child.kill("SIGTERM");
    expect((await once(child, "exit"))[0]).toBe(42);
  });

  test("under npm run it works where the user stands", () => {
    plant("src/cli/main.ts", report);
    const env = { ...process.env, npm_lifecycle_event: "thinstream", INIT_CWD: tmpdir() };
    expect(JSON.parse(run(join(root, "src/cli/thinstream.sh"), [], env).stdout)).toMatchObject({ cwd: tmpdir() });
  });

  test("an installed package with an old Node says in one line what it needs", () => {
    plant("dist/cli/main.js", report);
    const result = run(join(root, "src/cli/thinstream.sh"), [], { PATH: pathWith(["node", "echo v20.20.2"]) });
    expect(result).toMatchObject({ status: 1, stdout: "", stderr: "thinstream: needs Node.js 24 or later on PATH, found v20.20.2\n" });
  });

  test("a bare checkout fetches Node and packages once, and keeps standard output clean", () => {
    plant("src/cli/main.ts", report);
    plant("package-lock.json", "{}");
    const bin = '"$PWD"';
    const npm = `echo "npm $1" >>${root}/npm.log; echo chatter
      case $1 in
        install) mkdir -p ${root}/.cache/node/node_modules/.bin; ln -s ${process.execPath} ${root}/.cache/node/node_modules/.bin/node ;;
        ci) [ ${bin} = ${root} ] && mkdir -p node_modules && : >node_modules/.package-lock.json ;;
      esac`;
    const env = { PATH: pathWith(["npm", npm], ["node", "echo v20.20.2"], ["ln", 'exec /bin/ln "$@"']) };
    const first = run(join(root, "src/cli/thinstream.sh"), ["x"], env);
    expect(JSON.parse(first.stdout)).toMatchObject({ args: ["x"] });
    expect(first.stderr).toContain("fetching Node.js 24");
    expect(first.stderr).toContain("chatter");
    const second = run(join(root, "src/cli/thinstream.sh"), ["y"], env);
    expect(second.stderr).toBe("");
    expect(spawnSync("cat", [join(root, "npm.log")], { encoding: "utf8" }).stdout).toBe("npm install\nnpm ci\n");
  });

  test("a bare checkout without npm says so", () => {
    plant("src/cli/main.ts", report);
    plant("package-lock.json", "{}");
    const result = run(join(root, "src/cli/thinstream.sh"), [], { PATH: pathWith() });
    expect(result).toMatchObject({ status: 1, stdout: "" });
    expect(result.stderr).toBe("thinstream: needs Node.js 24 or later, or npm to fetch it; neither is on PATH\n");
  });
});
