import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type LibvirtDomain, LibvirtError, parseBackup } from "../../libvirt/index.ts";
import { errorText } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { SourceError } from "../errors.ts";
import { isOurs } from "./checkpoint-name.ts";
import { busy } from "../machine-lock.ts";
import { deadRunDirs, isAlive, removeRunDir, runDirOf } from "../job-dir.ts";

const END_MS = 60_000;
const LOOK_MS = 20;

/** Whose leftovers are looked for. */
export interface LeftoverSearch {
  readonly name: string;
  readonly uuid: string;
  readonly runtimeDir: string;
  readonly repoTag: string;
  /** Checkpoints that committed points name. */
  readonly known: ReadonlySet<string>;
  readonly hasAgent: boolean;
  readonly log: Logger;
}

/**
 * Ends what a killed run left: its job, a frozen guest, its directory, its checkpoint. Rejects `busy` while such a run lives, and
 * `foreign-job` when another program's job is on the domain.
 */
export async function clearLeftovers(domain: LibvirtDomain, search: LeftoverSearch): Promise<void> {
  const dir = await runningJob(domain, search.name);
  const dead = new Set([...(dir === null ? [] : [dir]), ...(await deadRunDirs(search.runtimeDir, search.uuid))]);
  if (dir !== null) {
    search.log.warn({ domain: search.name, dir }, "ending the backup job of a run that died");
    await endJob(domain);
  }
  if (dead.size > 0 && search.hasAgent) await domain.fsThaw().catch((err: unknown) => search.log.debug({ err }, "nothing to thaw"));
  for (const path of dead) await removeRunDir(path);
  for (const name of await domain.checkpointNames()) {
    if (!isOurs(name, search.repoTag) || search.known.has(name)) continue;
    search.log.warn({ domain: search.name, checkpoint: name }, "deleting a checkpoint that no point was committed with");
    await deleteCheckpoint(domain, name);
  }
}

/** The directory of a dead run of ours whose job still runs; null when no job runs. */
async function runningJob(domain: LibvirtDomain, name: string): Promise<string | null> {
  const xml = await domain.backupXml().catch((error: unknown) => {
    if (error instanceof LibvirtError && error.code === "no-backup") return null;
    throw error;
  });
  const hint = `end it, or if it was forgotten: virsh domjobabort ${name}`;
  if (xml !== null) {
    const { socket } = parseBackup(xml);
    const dir = runDirOf(socket);
    if (dir === null) throw new SourceError("foreign-job", `domain "${name}" has a backup job of another program`, { hint });
    if (!existsSync(dir) || (await isAlive(dir))) throw busy(name);
    return dir;
  }
  const { type } = await domain.jobStats();
  if (type === 1 || type === 2) throw new SourceError("foreign-job", `domain "${name}" is busy with a job of another program`, { hint });
  return null;
}

/** Ends the domain's backup job and waits until it is gone; nothing where there is none any more. Rejects `job-stuck` after a minute. */
export async function endJob(domain: LibvirtDomain): Promise<void> {
  try {
    await domain.abortJob();
  } catch (error) {
    if (error instanceof LibvirtError && error.code === "invalid-state") return;
    throw error;
  }
  // libvirt only asks QEMU to end it, and answers before that is done.
  const until = Date.now() + END_MS;
  while (await hasJob(domain)) {
    if (Date.now() > until) throw new SourceError("job-stuck", `the backup job of ${domain.label} did not end within ${END_MS / 1000} s`);
    await sleep(LOOK_MS);
  }
}

async function hasJob(domain: LibvirtDomain): Promise<boolean> {
  try {
    await domain.backupXml();
    return true;
  } catch (error) {
    // Also gone where the machine itself is.
    if (error instanceof LibvirtError && ["no-backup", "no-domain", "invalid-state"].includes(error.code)) return false;
    throw error;
  }
}

/**
 * Deletes a checkpoint; where its bitmaps are lost, what libvirt knows of it. Resolves with a sentence when it must stay, and with
 * null when it is gone.
 */
export async function deleteCheckpoint(domain: LibvirtDomain, name: string): Promise<string | null> {
  let checkpoint;
  try {
    checkpoint = await domain.checkpoint(name);
  } catch (error) {
    return error instanceof LibvirtError && error.code === "no-checkpoint"
      ? null
      : `checkpoint ${name} could not be found: ${errorText(error)}`;
  }
  try {
    await checkpoint.delete();
    return null;
  } catch (error) {
    // Of a machine that is off libvirt cannot delete bitmaps; forgetting the checkpoint would leave them for ever.
    if (!(await domain.isActive())) return `checkpoint ${name} stays until the machine runs again: ${errorText(error)}`;
    return await checkpoint.delete({ metadataOnly: true }).then(
      () => null,
      (again: unknown) => `checkpoint ${name} could not be deleted: ${errorText(again)}`,
    );
  } finally {
    await checkpoint.close();
  }
}
