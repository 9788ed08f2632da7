import { type Context, type Outcome, type RepositoryFlags, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";

export interface ForgetFlags extends RepositoryFlags {
  readonly point: readonly string[];
}

/** `thinstream forget`: takes points off the list. All of them exist, or none is forgotten. */
export async function forget(flags: ForgetFlags, context: Context): Promise<Outcome> {
  return await withRepository(flags, context, async ({ catalog }) => {
    for (const id of flags.point) await catalog.point(id, context.signal);
    for (const id of flags.point) await catalog.forget(id, context.signal);
    return { json: { forgotten: flags.point }, text: `Forgot ${flags.point.join(", ")}`, exitCode: ExitCode.ok };
  });
}
