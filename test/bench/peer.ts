import { join } from "node:path";
import { run } from "../lab/index.ts";
import { timed, type Timed } from "./measure.ts";

/** The peer: Debian's virtnbdbackup, or that of the checkout `PEER` names. */
function program(name: "virtnbdbackup" | "virtnbdrestore"): string {
  const checkedOut = process.env["PEER"] ?? "";
  return checkedOut === "" ? name : join(checkedOut, name);
}

export async function peerVersion(): Promise<string> {
  return (await run(program("virtnbdbackup"), ["--version"])).trim();
}

export interface PeerJob {
  readonly uri: string;
  readonly domain: string;
  /** directory of its backups */
  readonly dir: string;
  /** directory for its socket, scratch file and log */
  readonly runtime: string;
}

/** `virtnbdbackup -z`: LZ4 at its own default level. */
export async function peerBackup(job: PeerJob, level: "full" | "inc"): Promise<Timed> {
  const own = ["-f", join(job.runtime, "peer.sock"), "--scratchdir", job.runtime];
  return await timed(program("virtnbdbackup"), ["-U", job.uri, "-d", job.domain, "-l", level, "-z", "-n", "-o", job.dir, ...own]);
}

/** `virtnbdrestore` into a directory that is not there yet: qcow2, the one format it writes. */
export async function peerRestore(job: PeerJob, output: string): Promise<Timed> {
  const own = ["-f", join(job.runtime, "peer.sock"), "-L", join(job.runtime, "peer.log")];
  return await timed(program("virtnbdrestore"), ["-U", job.uri, "-i", job.dir, "-o", output, "-n", ...own]);
}
