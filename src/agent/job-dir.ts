import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { dirname, join } from "node:path";
import { SourceError } from "./errors.ts";

const PREFIX = "ts-";
const SOCKET = "nbd.sock";
const ALIVE = "alive.sock";
const RECORD = "job.json";
const SUN_PATH = 107; // bytes a unix socket's address may have

/** What a run leaves for the next one to read should it die. */
interface JobRecord {
  readonly machine: string;
  readonly scratch: string;
}

/**
 * A run's own directory: the job's NBD socket, a socket that shows this process is alive, and (here or in a directory of the same
 * name elsewhere) the scratch files.
 */
export class JobDir {
  readonly path: string;
  readonly scratchPath: string;
  readonly #server: Server;

  private constructor(path: string, scratchPath: string, server: Server) {
    this.path = path;
    this.scratchPath = scratchPath;
    this.#server = server;
  }

  /** Makes it, writable for the user that QEMU runs as. `machine` tells whose run it is. Rejects `path-too-long`. */
  static async make(
    where: { readonly runtimeDir: string; readonly scratchDir: string | undefined },
    machine: string,
    owner: Owner | null,
  ): Promise<JobDir> {
    const path = await mkdtemp(join(where.runtimeDir, PREFIX));
    try {
      if (Buffer.byteLength(join(path, ALIVE)) > SUN_PATH) {
        const hint = "choose a runtime directory with a short path";
        throw new SourceError("path-too-long", `the path ${path} is too long for a unix socket`, { hint });
      }
      const scratchPath = where.scratchDir === undefined ? path : join(where.scratchDir, path.slice(dirname(path).length + 1));
      const server = await listen(join(path, ALIVE));
      const record: JobRecord = { machine, scratch: scratchPath };
      await writeFile(join(path, RECORD), JSON.stringify(record), { mode: 0o600 });
      if (scratchPath !== path) await mkdir(scratchPath, { mode: 0o700 });
      for (const dir of new Set([path, scratchPath])) await hand(dir, owner);
      return new JobDir(path, scratchPath, server);
    } catch (error) {
      await rm(path, { recursive: true, force: true });
      throw error;
    }
  }

  get socket(): string {
    return join(this.path, SOCKET);
  }

  scratchOf(disk: string): string {
    return join(this.scratchPath, `${disk}.scratch`);
  }

  async remove(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await removeDirs(this.path, this.scratchPath);
  }
}

type Owner = { readonly uid: number; readonly gid: number };

// Only QEMU's own user may put a socket here: whoever could place one first would feed us a disk of his choice.
async function hand(dir: string, owner: Owner | null): Promise<void> {
  if (owner !== null && process.getuid?.() === 0) await chown(dir, owner.uid, owner.gid);
  else if (process.getuid?.() === 0) await chmod(dir, 0o711);
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", reject);
    server.listen(path, () => {
      server.unref();
      resolve(server);
    });
  });
}

/** Whether a path is the NBD socket of a run of ours, and then of which directory. */
export function runDirOf(socket: string | null): string | null {
  if (socket === null || !socket.endsWith(`/${SOCKET}`)) return null;
  const dir = dirname(socket);
  return dir.slice(dirname(dir).length + 1).startsWith(PREFIX) ? dir : null;
}

/** Whether the process that made a run's directory still lives. */
export function isAlive(dir: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(join(dir, ALIVE));
    const done = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    socket.once("connect", () => done(true));
    socket.once("error", () => done(false));
  });
}

/** Directories below `runtimeDir` that dead runs for a machine left behind. */
export async function deadRunDirs(runtimeDir: string, machine: string): Promise<readonly string[]> {
  const names = await readdir(runtimeDir).catch(() => []);
  const dead: string[] = [];
  for (const name of names.filter((one) => one.startsWith(PREFIX))) {
    const dir = join(runtimeDir, name);
    const record = await readRecord(dir);
    if (record?.machine === machine && !(await isAlive(dir))) dead.push(dir);
  }
  return dead;
}

/** Removes what dead runs for a machine left below `runtimeDir`. */
export async function clearDeadRuns(runtimeDir: string, machine: string): Promise<void> {
  for (const dir of await deadRunDirs(runtimeDir, machine)) await removeRunDir(dir);
}

/** Removes a dead run's directory, and its scratch files where they lie elsewhere. */
export async function removeRunDir(dir: string): Promise<void> {
  const record = await readRecord(dir);
  await removeDirs(dir, record?.scratch ?? dir);
}

async function removeDirs(dir: string, scratch: string): Promise<void> {
  // A record names its own directory's namesake and nothing else; anything else in it is not ours to remove.
  const name = dir.slice(dirname(dir).length + 1);
  if (scratch !== dir && scratch.endsWith(`/${name}`)) await rm(scratch, { recursive: true, force: true });
  await rm(dir, { recursive: true, force: true });
}

async function readRecord(dir: string): Promise<JobRecord | null> {
  try {
    const record = JSON.parse(await readFile(join(dir, RECORD), "utf8")) as Partial<JobRecord> | null;
    return typeof record?.machine === "string" && typeof record.scratch === "string"
      ? { machine: record.machine, scratch: record.scratch }
      : null;
  } catch {
    return null; // not made by us, or removed meanwhile
  }
}
