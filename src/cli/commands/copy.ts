import { type CopyReport, copyPoints, type PassedOver, type Wanted } from "../../copy/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { Codec, DEFAULT_DOMAIN, type Domains, type Repository, RepositoryError } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withDomains, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { ProgressDisplay } from "../progress.ts";
import { stepHook } from "../step-hook.ts";
import { table } from "../table.ts";
import { UsageError } from "../usage-error.ts";

export interface CopyFlags {
  readonly point: readonly string[];
  readonly vm?: readonly string[];
  readonly all?: boolean;
  readonly from: string;
  readonly fromKeyFile?: string;
  readonly fromPassphraseFile?: string;
  readonly fromProfile?: string;
  readonly keyDomain?: string;
  readonly to: string;
  readonly toKeyFile?: string;
  readonly toPassphraseFile?: string;
  readonly toProfile?: string;
  readonly compression: "lz4" | "zstd" | "none";
}

/** `thinstream copy`: points into another repository, as far as it does not have them. */
export async function copy(flags: CopyFlags, context: Context): Promise<Outcome> {
  const wanted = wantedBy(flags);
  const { signal, log } = context;
  const target = side(flags.to, flags.toProfile, { keyFile: flags.toKeyFile, passphraseFile: flags.toPassphraseFile });
  const source = side(flags.from, flags.fromProfile, { keyFile: flags.fromKeyFile, passphraseFile: flags.fromPassphraseFile });
  return await withDomains({ ...source, ...only(flags) }, context, async (domains) => {
    domains.requireWhole();
    const reports: CopyReport[] = [];
    for (const { from, part } of await partsOf(domains, wanted, signal)) {
      const keyDomain = targetOf(from);
      const copied = await withRepository({ ...target, ...keyDomain }, context, async (to) => {
        const display = new ProgressDisplay("Copying");
        return await copyPoints({
          from,
          to,
          wanted: part,
          codec: Codec[flags.compression],
          signal,
          log,
          onStep: stepHook(signal),
          onProgress: ({ totalBytes, doneBytes, readBytes }) => display.update({ done: doneBytes, total: totalBytes, bytes: readBytes }),
        }).finally(() => display.end());
      });
      reports.push(copied);
    }
    const { copied, passedOver, failed } = joined(reports);
    return outcomeOf({ copied, passedOver, failed: [...failed, ...domains.lost.map(lostAll)] }, domains.destroyed);
  });
}

function only({ keyDomain }: CopyFlags): { readonly keyDomain?: string } {
  return keyDomain === undefined ? {} : { keyDomain };
}

/** Points go into the domain of the same name: what one key opens is not put under another's. */
function targetOf({ domainName, domain }: Repository): { readonly keyDomain?: string } {
  if (domainName === null) {
    throw new RepositoryError(
      "domain-unknown",
      `Nothing says what the domain ${domain} is called, so there is none to copy its points into`,
      {
        hint: "A backup into it writes its name down again; --key-domain copies the others",
      },
    );
  }
  return domainName === DEFAULT_DOMAIN ? {} : { keyDomain: domainName };
}

/** What is wanted of each domain. */
async function partsOf(
  domains: Domains,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<{ readonly from: Repository; readonly part: Wanted }[]> {
  if (wanted === "all" || domains.opened.length === 1) return domains.opened.map((from) => ({ from, part: wanted }));
  const parts = new Map<Repository, string[]>();
  const add = (from: Repository, one: string): void => void parts.set(from, [...(parts.get(from) ?? []), one]);
  if ("points" in wanted) {
    for (const id of wanted.points) add(await domains.holding(id, signal), id);
    return [...parts].map(([from, points]) => ({ from, part: { points } }));
  }
  for (const vm of new Set(wanted.vms)) {
    const { points } = await domains.list({ vm, signal });
    const having = new Set(points.map(({ domain }) => domain));
    // Where no domain has it, the first one says so.
    for (const from of having.size === 0 ? domains.opened.slice(0, 1) : having) add(from, vm);
  }
  return [...parts].map(([from, vms]) => ({ from, part: { vms } }));
}

function joined(reports: readonly CopyReport[]): CopyReport {
  return {
    copied: reports.flatMap(({ copied }) => copied),
    passedOver: reports.flatMap(({ passedOver }) => passedOver),
    failed: reports.flatMap(({ failed }) => failed),
  };
}

function destroyedLine({ name, time }: Domains["destroyed"][number]): string {
  return `The domain ${name} was destroyed (${time}): nothing of it can be copied`;
}

function lostAll({ id, name, error }: Domains["lost"][number]): CopyReport["failed"][number] {
  return { id, message: `Nothing of the domain ${name ?? id} can be read: ${error.message}` };
}

function wantedBy({ point, vm, all }: CopyFlags): Wanted {
  const given = [point.length > 0, vm !== undefined, all === true].filter(Boolean).length;
  if (given !== 1) {
    throw new UsageError(given === 0 ? "Nothing says what is to be copied" : "Points, --vm and --all exclude each other", {
      hint: "Give the ids of points, --vm NAME, or --all",
    });
  }
  return all === true ? "all" : vm === undefined ? { points: point } : { vms: vm };
}

function side(
  repo: string,
  profile: string | undefined,
  { keyFile, passphraseFile }: { readonly keyFile: string | undefined; readonly passphraseFile: string | undefined },
): RepositoryFlags {
  return {
    repo,
    ...(keyFile === undefined ? {} : { keyFile }),
    ...(passphraseFile === undefined ? {} : { passphraseFile }),
    ...(profile === undefined ? {} : { profile }),
  };
}

function outcomeOf({ copied, passedOver, failed }: CopyReport, destroyed: Domains["destroyed"]): Outcome {
  const [readBytes, uploadedBytes] = [
    copied.reduce((sum, point) => sum + point.readBytes, 0),
    copied.reduce((sum, point) => sum + point.uploadedBytes, 0),
  ];
  const [there, older] = [passedOver.filter(({ why }) => why === "there"), passedOver.filter(({ why }) => why === "older")];
  // Who names a point wants that one; who copies everything again and again has had, and forgotten, the older ones.
  const warnings = older.filter(({ named }) => named).map(({ id }) => `The restore point ${id} was not copied: ${OLDER}`);
  const rows = copied.map((point) => [
    point.from,
    point.to,
    point.vm,
    point.time,
    formatBytes(point.readBytes),
    formatBytes(point.uploadedBytes),
  ]);
  const lines = [
    copied.length === 0 ? "Nothing was copied" : table(["POINT", "COPY", "VM", "TIME", "READ", "STORED"], rows),
    ...(there.length === 0 ? [] : [`There already: ${there.length}`]),
    ...unnamed(older),
    ...warnings.map((warning) => `Warning: ${warning}`),
    ...failed.map(({ message }) => `FAILED: ${message}`),
    ...destroyed.map(destroyedLine),
  ];
  return {
    json: { copied, there: there.map(({ id }) => id), older: older.map(({ id }) => id), failed, readBytes, uploadedBytes, warnings },
    text: lines.join("\n"),
    exitCode: failed.length > 0 ? ExitCode.failed : warnings.length > 0 ? ExitCode.warnings : ExitCode.ok,
  };
}

const OLDER = "the target has younger ones of the machine, and a point behind a younger one would end its retention";

function unnamed(older: readonly PassedOver[]): string[] {
  const count = older.filter(({ named }) => !named).length;
  return count === 0 ? [] : [`Passed over, for the target's points are younger: ${count}`];
}
