import { errorText } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import {
  BackupSession,
  type Codec,
  imageOf,
  isLoss,
  type Lineage,
  offerHints,
  type PointDisk,
  type PointLevel,
  type PointRecord,
  type Repository,
  type SimilarImage,
  similarImages,
} from "../repository/index.ts";
import type { BackupSource, Capture, Level, SourceDisk } from "./backup-source.ts";
import type { BaseFacts } from "./base-facts.ts";
import { type Bases, findBases } from "./find-bases.ts";

export interface BackupRequest {
  readonly repository: Repository;
  /** `disks`: those the machine has now, whose bases are looked for even where the last points left them out */
  readonly vm: { readonly name: string; readonly uuid: string | null; readonly disks?: readonly string[] };
  /** Opens the machine's disks at one instant, standing on these bases where it can. */
  readonly open: (standing: Standing) => Promise<BackupSource>;
  /** point an incremental or differential is taken against; null: the newest */
  readonly since: string | null;
  /** kept with the point beside what the source knows */
  readonly captures?: readonly Capture[];
  readonly codec: Codec;
  readonly tool: { readonly name: string; readonly version: string };
  /** bytes; with less than so much changed, and a point to stand on, nothing is stored */
  readonly threshold: number | null;
  /** only say what would be read */
  readonly estimate: boolean;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly onStep?: (step: BackupStep) => void | Promise<void>;
  readonly onProgress?: (progress: BackupProgress) => void;
}

/** What the repository knows of what a new point may stand on. */
export interface Standing {
  readonly bases: readonly BaseFacts[];
  /** every checkpoint that a later backup may still stand on: what is not among them is a dead run's */
  readonly committed: readonly string[];
}

/** The steps of a run after the source was opened, in order; a run may be killed at each of them. */
export type BackupStep = "opened" | "disks-written" | "packs-stored" | "committed" | "source-released" | "head-written";

export interface BackupProgress {
  /** bytes, of all disks */
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly readBytes: number;
  readonly storedBytes: number;
}

/** What changed on a disk, for an estimate. All in bytes. */
export interface DiskEstimate {
  readonly name: string;
  readonly level: Level;
  readonly reason: string;
  readonly dirtyBytes: number;
  readonly zeroBytes: number;
}

export type BackupResult =
  | { readonly kind: "committed"; readonly point: PointRecord; readonly warnings: readonly string[] }
  | {
      readonly kind: "estimated" | "below-threshold";
      readonly disks: readonly DiskEstimate[];
      readonly consistency: BackupSource["consistency"];
      readonly warnings: readonly string[];
    };

/**
 * One backup of one machine: from the open source to the committed point, or to nothing at all. Where what it stands on or is compared with turns
 * out to be lost or damaged, it is taken once more without: everything is read and stored, and a warning says so.
 */
export async function runBackup(request: BackupRequest): Promise<BackupResult> {
  const { repository, since, signal } = request;
  const lineage = await findLineage(request);
  const from = since === null ? (lineage.points[0] ?? null) : await repository.catalog.livePoint(since, signal);
  try {
    return await backUp({ request, lineage, from, lost: null });
  } catch (thrown) {
    signal.throwIfAborted();
    if (!isLoss(thrown)) throw thrown;
    return await backUp({ request, lineage, from, lost: errorText(thrown) });
  }
}

interface Attempt {
  readonly request: BackupRequest;
  readonly lineage: Lineage;
  /** the point an incremental is taken against */
  readonly from: PointRecord | null;
  /** why nothing of the repository is to be read this time; null for the first attempt */
  readonly lost: string | null;
}

async function backUp(attempt: Attempt): Promise<BackupResult> {
  const { request, lineage, from, lost } = attempt;
  const { repository, vm, signal } = request;
  const disks = vm.disks ?? [];
  const bases = await findBases(repository, { from: lost === null ? from : null, disks: lost === null ? disks : [] }, signal);
  const latest = lineage.points[0] ?? null;
  const newest = from === latest && lost === null ? bases : await findBases(repository, { from: latest, disks }, signal);
  const source = await request.open({ bases: bases.facts, committed: newest.facts.map(({ checkpoint }) => checkpoint) });
  const run = { ...attempt, bases, source, warnings: [...source.warnings, ...lossWarning(lost)] };
  try {
    await request.onStep?.("opened");
    return (await lookedAtOnly(run)) ?? (await store(run));
  } catch (thrown) {
    await source.abort();
    throw thrown;
  }
}

function lossWarning(lost: string | null): string[] {
  if (lost === null) return [];
  const said = `data of earlier backups cannot be read (${lost}), so this one stored everything and was compared with nothing`;
  return [`${said}; \`thinstream check\` names the restore points that are damaged`];
}

/** What the new point follows; refuses a store that is not safe to write to, before anything of the machine is touched. */
async function findLineage({ repository, vm, estimate: only, signal }: BackupRequest): Promise<Lineage> {
  const lineage = repository.catalog.lineage(vm.name, { depth: 1, signal });
  const [found] = await Promise.all(only ? [lineage] : [lineage, repository.requireSafeWrites(signal)]);
  return found;
}

/** Ends a run that was only to estimate, or in which too little changed; null for one that goes on. */
async function lookedAtOnly({ request, lineage, source, warnings }: Run): Promise<BackupResult | null> {
  const { estimate: asked, threshold, signal } = request;
  if (!asked && threshold === null) return null;
  const disks = await estimate(source, signal);
  if (!asked && !skippable(disks, threshold ?? 0, lineage)) return null;
  await source.abort();
  return { kind: asked ? "estimated" : "below-threshold", disks, consistency: source.consistency, warnings };
}

interface Run extends Attempt {
  readonly bases: Bases;
  readonly source: BackupSource;
  readonly warnings: readonly string[];
}

async function store(run: Run): Promise<BackupResult> {
  const { request, lineage, source } = run;
  const { repository, vm, codec, onStep } = request;
  const failure = new AbortController();
  const signal = AbortSignal.any([request.signal, failure.signal]);
  const session = new BackupSession(repository, { vm, codec, signal, lineage });
  let point: PointRecord;
  try {
    const progress = track(run, session);
    const writes = source.disks.map(
      async (disk) => await writeDisk(run, session, { disk, signal, progress }).catch((thrown: unknown) => fail(failure, thrown)),
    );
    await Promise.allSettled(writes);
    signal.throwIfAborted();
    const written = await Promise.all(writes);
    for (const { name, bytes } of [...source.captures, ...(request.captures ?? [])]) await session.addCapture(name, bytes);
    await onStep?.("disks-written");
    await session.flush();
    await source.requireStill?.();
    await onStep?.("packs-stored");
    point = await session.commit({
      level: overall(written),
      consistency: source.consistency,
      warnings: run.warnings,
      tool: request.tool,
    });
  } finally {
    await session.close();
  }
  return await afterCommit(run, point);
}

/** The point is there: from here on nothing may fail the run, only warn. */
async function afterCommit({ request, lineage, source, ...run }: Run, point: PointRecord): Promise<BackupResult> {
  const { repository, signal, onStep, log } = request;
  await onStep?.("committed");
  const warnings = [...run.warnings];
  warnings.push(
    ...(await source
      .commit()
      .catch((thrown: unknown) => [`The point is committed, but the source was not left as it should be: ${String(thrown)}`])),
  );
  await onStep?.("source-released");
  await repository.catalog
    .writeHead(lineage.vmId, point.seq, signal)
    .catch((err: unknown) => log.warn({ err }, "Could not update the head hint; the next backup will look for the point"));
  if (lineage.points.length === 0)
    await offerHints(repository, point, signal).catch((err: unknown) => log.warn({ err }, "Could not update the dedup hints"));
  await onStep?.("head-written");
  return { kind: "committed", point, warnings };
}

interface DiskJob {
  readonly disk: SourceDisk;
  readonly signal: AbortSignal;
  readonly progress: (disk: string, position: number, readBytes: number) => void;
}

async function writeDisk(
  { request, bases, lineage, lost }: Run,
  session: BackupSession,
  { disk, signal, progress }: DiskJob,
): Promise<PointDisk> {
  const latest = imageOf(lineage.points[0] ?? null, disk.name);
  const likely = async (): Promise<SimilarImage[]> => (latest === null ? await similarImages(request.repository, disk, signal) : [latest]);
  const similar = lost === null ? await likely() : [];
  const base = disk.base === null ? null : (bases.points.get(disk.base) ?? null);
  return await session.writeDisk(disk, {
    level: disk.level,
    reason: disk.reason,
    base,
    checkpoint: disk.checkpoint,
    imageInfo: disk.imageInfo,
    similar,
    onProgress: ({ position, readBytes }) => progress(disk.name, position, readBytes),
  });
}

function track({ request, source }: Run, session: BackupSession): DiskJob["progress"] {
  const totalBytes = source.disks.reduce((sum, { size }) => sum + size, 0);
  const positions = new Map<string, { readonly position: number; readonly readBytes: number }>();
  return (disk, position, readBytes) => {
    positions.set(disk, { position, readBytes });
    const all = [...positions.values()];
    request.onProgress?.({
      totalBytes,
      doneBytes: all.reduce((sum, one) => sum + one.position, 0),
      readBytes: all.reduce((sum, one) => sum + one.readBytes, 0),
      storedBytes: session.shippedBytes,
    });
  };
}

async function estimate(source: BackupSource, signal: AbortSignal): Promise<DiskEstimate[]> {
  const disks: DiskEstimate[] = [];
  for (const disk of source.disks) {
    const counted = { clean: 0, data: 0, zero: 0 };
    for await (const extent of disk.extents(signal)) counted[extent.state] += extent.length;
    disks.push({
      name: disk.name,
      level: disk.level,
      reason: disk.reason,
      dirtyBytes: counted.data + counted.zero,
      zeroBytes: counted.zero,
    });
  }
  return disks;
}

/** A threshold never skips a first backup, a full one, or a disk that could not be compared. */
function skippable(disks: readonly DiskEstimate[], threshold: number, lineage: Lineage): boolean {
  const comparable = disks.every(({ level }) => level === "incremental" || level === "differential");
  return lineage.points.length > 0 && comparable && disks.reduce((sum, { dirtyBytes }) => sum + dirtyBytes, 0) < threshold;
}

/** What the levels that the disks have in the end make of the point. */
function overall(disks: readonly PointDisk[]): PointLevel {
  const levels = new Set(disks.map(({ level }) => level));
  const [only] = levels;
  if (levels.size === 1 && only !== undefined) return only;
  return levels.has("differential") ? "differential" : "incremental";
}

function fail(failure: AbortController, thrown: unknown): never {
  failure.abort(thrown);
  throw thrown;
}
