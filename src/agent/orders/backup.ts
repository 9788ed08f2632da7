import { dirname } from "node:path";

import { type BackupWork, parseFrozen, type RunIdentity, type SucceededResult } from "../../api/index.ts";
import { errorText } from "../../lib/errors.ts";
import { Codec, type PointRecord, readCapture, type Repository } from "../../repository/index.ts";
import { json } from "../captures.ts";
import { repoTag } from "../domain-facts.ts";
import { findBases } from "../find-bases.ts";
import type { Quiesce } from "../libvirt-pull/freeze.ts";
import { tidyDomain } from "../libvirt-pull/tidy.ts";
import { domainMachine, imageMachine, type Machine } from "../machine.ts";
import { runBackup } from "../run-backup.ts";
import { Refusal } from "./channel-server.ts";
import { ControllerFreezer } from "./controller-freezer.ts";
import type { OrderedWork, OrderJob } from "./job.ts";
import { readCaptures, REQUEST } from "./order-files.ts";
import { backupResult } from "./point-summary.ts";

const quiesceOf = { Auto: "auto", Required: "required", Never: "never" } as const satisfies Record<BackupWork["freeze"]["mode"], Quiesce>;
const phaseOf: Readonly<Record<string, "Copying" | "Committing">> = { opened: "Copying", "disks-written": "Committing" };

interface Ordered {
  readonly work: BackupWork;
  readonly job: OrderJob;
  readonly freezer: ControllerFreezer;
}

/** Takes a restore point, once for each run however many attempts it has. */
export function backupWork(work: BackupWork, job: OrderJob): OrderedWork {
  const { board, signal } = job;
  const ordered = { work, job, freezer: new ControllerFreezer(board, { ms: work.freeze.timeoutSeconds * 1000, signal }) };
  return {
    routes: {
      "POST /frozen": ({ body }) => {
        const message = parseFrozen(body);
        if (!ordered.freezer.answered(message)) throw new Refusal(409, "The agent does not wait for a freeze (any more): thaw the guest");
        return Promise.resolve({});
      },
    },
    carryOut: async () => {
      // Before anything else: an order that was tampered with does nothing at all.
      const captures = [json(REQUEST, requestOf(job)), ...(await readCaptures(job.directory, work.captures))];
      return await job.withRepository(work.domain, async (repository) => {
        const earlier = await pointOfRun(repository, work.vm.name, job);
        if (earlier !== null) return await answerWith(earlier, repository, ordered);
        const machine = await machineOf(ordered);
        const result = await runBackup({
          repository,
          vm: { ...machine, uuid: work.vm.uid ?? machine.uuid },
          open: async (standing) => await machine.open(standing, repository),
          since: null,
          captures,
          codec: Codec[work.compression],
          tool: { name: "thinstream", version: job.version },
          threshold: null,
          estimate: false,
          signal,
          log: job.log,
          onStep: async (step) => {
            const phase = phaseOf[step];
            if (phase !== undefined) board.enter(phase);
            await job.onStep(step);
          },
          onProgress: (progress) => board.count(progress),
        });
        if (result.kind !== "committed") throw new Error(`An ordered backup ended as ${result.kind}`);
        return backupResult(result.point, { warnings: result.warnings, found: false });
      });
    },
  };
}

function requestOf({ order }: OrderJob): { readonly version: 1; readonly run: RunIdentity } {
  return { version: 1, run: order.run };
}

/** The machine's newest point, where an earlier attempt of this run made it. */
async function pointOfRun(repository: Repository, vm: string, { order, signal, log }: OrderJob): Promise<PointRecord | null> {
  const { points } = await repository.catalog.lineage(vm, { depth: 1, signal });
  const [newest] = points;
  const capture = newest?.captures.find(({ name }) => name === REQUEST);
  if (newest === undefined || capture === undefined) return null;
  try {
    const request = JSON.parse((await readCapture(repository, capture, signal)).toString("utf8")) as Partial<
      ReturnType<typeof requestOf>
    > | null;
    return request?.run?.uid === order.run.uid ? newest : null;
  } catch (err) {
    signal.throwIfAborted();
    // A point whose own request cannot be read is not to be answered with.
    log.warn({ err, point: newest.id }, "What ordered the newest point cannot be read; another is taken");
    return null;
  }
}

/** The earlier attempt may have been killed before it had ended its job in libvirt. */
async function answerWith(point: PointRecord, repository: Repository, ordered: Ordered): Promise<SucceededResult> {
  const { work, job, freezer } = ordered;
  const { signal, log } = job;
  const warnings = [...point.warnings];
  if (work.source.engine === "libvirt") {
    const { uri, domain, runtimeDir } = work.source;
    try {
      const { facts } = await findBases(repository, { from: point, disks: Object.keys(work.source.diskNames) }, signal);
      const committed = facts.map(({ checkpoint }) => checkpoint);
      const tag = repoTag(repository, work.vm.name);
      await tidyDomain({ uri, domain, runtimeDir, repoTag: tag, committed, signal, log, ...freezing(work, freezer) });
    } catch (thrown) {
      signal.throwIfAborted();
      warnings.push(`What the earlier attempt left in libvirt could not be removed: ${errorText(thrown)}`);
    }
  }
  return backupResult(point, { warnings, found: true });
}

async function machineOf({ work, job, freezer }: Ordered): Promise<Machine> {
  const { level, source, vm } = work;
  const common = { name: vm.name, level, signal: job.signal, log: job.log, onStep: job.onStep };
  if (source.engine === "image") {
    const wanted = source.images.filter(({ disk }) => (work.disks?.includes(disk) ?? true) && !work.excludeDisks.includes(disk));
    const images = wanted.map(({ disk, path, format }) => ({ name: disk, path, ...(format === null ? {} : { format }) }));
    return imageMachine({
      ...common,
      uuid: vm.uid,
      images,
      key: vm.uid ?? vm.name,
      within: source.images.map(({ path }) => dirname(path)),
    });
  }
  return await domainMachine({
    ...common,
    uri: source.uri,
    domain: source.domain,
    ...(source.instanceUid === null ? {} : { instanceUid: source.instanceUid }),
    runtimeDir: source.runtimeDir,
    scratchDir: source.scratchDir,
    diskNames: new Map(Object.entries(source.diskNames).map(([name, alias]) => [alias, name])),
    excludeDisks: work.excludeDisks,
    ...(work.disks === null ? {} : { disks: work.disks }),
    quiesce: quiesceOf[work.freeze.mode],
    // Where the controller freezes the machine is KubeVirt's, and its disks are a tenant's.
    confined: work.freeze.by === "controller",
    freezeTimeout: work.freeze.timeoutSeconds,
    ...freezing(work, freezer),
  });
}

function freezing({ freeze }: BackupWork, freezer: ControllerFreezer): { readonly freezer?: ControllerFreezer } {
  return freeze.by === "controller" ? { freezer } : {};
}
