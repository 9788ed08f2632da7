import { mapConcurrently } from "../../lib/concurrency.ts";
import { type Domains, RepositoryError } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withDomains } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { UsageError } from "../usage-error.ts";
import { type KeepFlags, keptBy, planOf, rulesOf, textOf } from "./forget-plan.ts";

const PARALLEL = 16;

export interface ForgetFlags extends RepositoryFlags, KeepFlags {
  readonly point?: readonly string[];
  readonly dryRun?: boolean;
}

/** `thinstream forget`: takes points off the list, those that are named or those that no rule keeps. */
export async function forget(flags: ForgetFlags, context: Context): Promise<Outcome> {
  const rules = rulesOf(flags);
  if (flags.point !== undefined) {
    if (rules !== null || flags.vm !== undefined) throw new UsageError("--point names what is forgotten: leave --keep-… and --vm out");
    return await forgetNamed(flags.point, flags, context);
  }
  if (rules === null) {
    throw new UsageError("Nothing says what is to be forgotten", {
      hint: "Give --point, or at least one --keep-… rule of 1 or more: without a rule everything would go, so nothing does",
    });
  }
  return await withDomains(flags, context, async (domains) => {
    domains.requireWhole();
    const plan = await planOf(domains, { rules, flags, signal: context.signal });
    const doomed = plan.machines.flatMap(({ verdicts }) =>
      verdicts.filter((verdict) => !keptBy(verdict)).map(({ point }) => point.record.id),
    );
    const skipped = flags.dryRun === true ? [] : await forgetAll(domains, doomed, context.signal);
    const forgotten = doomed.filter((id) => !skipped.some((one) => one.id === id));
    const warnings = [...plan.warnings, ...skipped.map(({ message }) => message)];
    return {
      json: { dryRun: flags.dryRun === true, timeZone: flags.timeZone, machines: plan.machines.map(machineJson), forgotten, warnings },
      text: textOf(plan, { forgotten, warnings, dryRun: flags.dryRun === true }),
      exitCode: warnings.length === 0 ? ExitCode.ok : ExitCode.warnings,
    };
  });
}

/** All of them exist and none is held, or none is forgotten. */
async function forgetNamed(ids: readonly string[], flags: ForgetFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    domains.requireWhole();
    for (const id of ids) await (await domains.holding(id, context.signal)).catalog.requireForgettable(id, context.signal);
    const dryRun = flags.dryRun === true;
    if (!dryRun) for (const id of ids) await (await domains.holding(id, context.signal)).catalog.forget(id, context.signal);
    return { json: { dryRun, forgotten: ids }, text: `${dryRun ? "Would forget" : "Forgot"} ${ids.join(", ")}`, exitCode: ExitCode.ok };
  });
}

/** Those that somebody has come to hold since they were looked at are left, and said. */
async function forgetAll(
  domains: Domains,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly id: string; readonly message: string }[]> {
  const skipped: { id: string; message: string }[] = [];
  await mapConcurrently(ids, PARALLEL, async (id) => {
    try {
      await (await domains.holding(id, signal)).catalog.forget(id, signal);
    } catch (thrown) {
      if (!(thrown instanceof RepositoryError) || thrown.code !== "point-held") throw thrown;
      skipped.push({ id, message: thrown.message });
    }
  });
  return skipped;
}

function machineJson({ vm, domain, verdicts }: Awaited<ReturnType<typeof planOf>>["machines"][number]): object {
  return {
    vm,
    ...(domain === null ? {} : { domain }),
    points: verdicts.map((verdict) => ({
      id: verdict.point.record.id,
      time: verdict.point.record.time,
      kept: keptBy(verdict),
      reasons: verdict.reasons,
    })),
  };
}
