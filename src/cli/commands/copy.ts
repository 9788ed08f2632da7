import { type CopyReport, copyPoints, type PassedOver, type Wanted } from "../../copy/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { Codec } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withRepository } from "../context.ts";
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
  return await withRepository(
    side(flags.from, flags.fromProfile, { keyFile: flags.fromKeyFile, passphraseFile: flags.fromPassphraseFile }),
    context,
    async (from) => {
      return await withRepository(
        side(flags.to, flags.toProfile, { keyFile: flags.toKeyFile, passphraseFile: flags.toPassphraseFile }),
        context,
        async (to) => {
          const display = new ProgressDisplay("Copying");
          const report = await copyPoints({
            from,
            to,
            wanted,
            codec: Codec[flags.compression],
            signal,
            log,
            onStep: stepHook(signal),
            onProgress: ({ totalBytes, doneBytes, readBytes }) => display.update({ done: doneBytes, total: totalBytes, bytes: readBytes }),
          }).finally(() => display.end());
          return outcomeOf(report);
        },
      );
    },
  );
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

function outcomeOf({ copied, passedOver, failed }: CopyReport): Outcome {
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
