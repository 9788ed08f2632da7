import { join } from "node:path";
import { checkout, LabError, run } from "../lab/index.ts";
import type { BackupJson, RestoreJson } from "../support/thinstream.ts";
import { timed, type Timed, type TimedOptions } from "./measure.ts";

/** The command line as built by `run.mjs`, laid out like an installed package. */
const launcher: string = join(checkout(), ".cache/bench/app/src/cli/thinstream.sh");

/** A repository and how to get at it. */
export interface Repo {
  readonly url: string;
  readonly keyFile: string;
  /** credentials, and whatever else the program shall find in its environment */
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs `thinstream` and gives its one JSON document beside what it took. */
export async function thinstream(
  repo: Repo,
  args: readonly string[],
  options: TimedOptions = {},
): Promise<{ readonly took: Timed; readonly json: unknown }> {
  const [command = "", ...rest] = args;
  const env = { ...repo.env, ...options.env, THINSTREAM_KEY_FILE: repo.keyFile };
  const took = await timed("sh", [launcher, command, "--repo", repo.url, ...rest, "--json"], { ...options, env });
  return { took, json: JSON.parse(took.stdout) as unknown };
}

/** Not measured. */
export async function init(repo: Repo): Promise<void> {
  await run("sh", [launcher, "init", "--repo", repo.url, "--key-file", repo.keyFile], { env: { ...process.env, ...repo.env } });
}

export interface Vm {
  readonly uri: string;
  readonly name: string;
}

/** lz4 and encryption: what it does when nothing is said. */
export async function backup(repo: Repo, vm: Vm, options: TimedOptions = {}): Promise<{ readonly took: Timed; readonly json: BackupJson }> {
  const { took, json } = await thinstream(repo, ["backup", "--connect", vm.uri, "--domain", vm.name], options);
  return { took, json: json as BackupJson };
}

export async function restore(
  repo: Repo,
  output: string,
  format: "raw" | "qcow2",
): Promise<{ readonly took: Timed; readonly json: RestoreJson }> {
  const { took, json } = await thinstream(repo, ["restore", "--point", "latest", "--output", output, "--format", format]);
  return { took, json: json as RestoreJson };
}

/** A row must measure what it says it does. @throws LabError */
export function expectLevel({ json }: { readonly json: BackupJson }, level: string): void {
  const disk = json.disks[0];
  if (disk?.level !== level) throw new LabError(`the backup was ${disk?.level}, not ${level}: ${disk?.reason}`);
}
