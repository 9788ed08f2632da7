import { type Context, type Outcome, type RepositoryFlags, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";

export interface PointFlags extends RepositoryFlags {
  readonly point: readonly string[];
}

/** `thinstream point hold`: the points stay, whatever is forgotten and pruned. Each stands for itself: one that is unknown ends it, those before it are held. */
export async function pointHold(flags: PointFlags, context: Context): Promise<Outcome> {
  return await withRepository(flags, context, async ({ catalog }) => {
    const warnings: string[] = [];
    for (const id of flags.point) {
      const { forgotten } = await catalog.hold(id, context.signal);
      if (forgotten) warnings.push(`The restore point ${id} was forgotten before: it is kept now, but no list shows it`);
    }
    return outcome("held", flags.point, { said: `Held ${flags.point.join(", ")}`, warnings });
  });
}

/** `thinstream point release`: takes the hold off again. Needs the right to delete in the store. */
export async function pointRelease(flags: PointFlags, context: Context): Promise<Outcome> {
  return await withRepository(flags, context, async ({ catalog }) => {
    const warnings: string[] = [];
    for (const id of flags.point) {
      const { held, forgotten } = await catalog.release(id, context.signal);
      if (!held) warnings.push(`The restore point ${id} was not held`);
      if (forgotten) warnings.push(`The restore point ${id} is forgotten, and nothing keeps it any more`);
    }
    return outcome("released", flags.point, { said: `Released ${flags.point.join(", ")}`, warnings });
  });
}

function outcome(
  name: "held" | "released",
  points: readonly string[],
  { said, warnings }: { readonly said: string; readonly warnings: readonly string[] },
): Outcome {
  return {
    json: { [name]: points, warnings },
    text: [said, ...warnings].join("\n"),
    exitCode: warnings.length === 0 ? ExitCode.ok : ExitCode.warnings,
  };
}
