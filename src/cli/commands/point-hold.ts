import { type Context, type Outcome, type RepositoryFlags, withDomains } from "../context.ts";
import { type Domains, type Repository, RepositoryError } from "../../repository/index.ts";
import { ExitCode } from "../exit-codes.ts";

export interface PointFlags extends RepositoryFlags {
  readonly point: readonly string[];
}

/** `thinstream point hold`: the points stay, whatever is forgotten and pruned. Each stands for itself: one that is unknown ends it, those before it are held. */
export async function pointHold(flags: PointFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    domains.requireWhole();
    const warnings: string[] = [];
    for (const id of flags.point) {
      const { catalog } = await domains.holding(id, context.signal);
      const { forgotten } = await catalog.hold(id, context.signal);
      if (forgotten) warnings.push(`The restore point ${id} was forgotten before: it is kept now, but no list shows it`);
    }
    return outcome("held", flags.point, { said: `Held ${flags.point.join(", ")}`, warnings });
  });
}

/** `thinstream point release`: takes the hold off again. Needs the right to delete in the store. */
export async function pointRelease(flags: PointFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    domains.requireWhole();
    const warnings: string[] = [];
    for (const id of flags.point) {
      const { held, forgotten } = await releaseOne(domains, id, context.signal);
      if (!held) warnings.push(`The restore point ${id} was not held`);
      if (forgotten) warnings.push(`The restore point ${id} is forgotten, and nothing keeps it any more`);
    }
    return outcome("released", flags.point, { said: `Released ${flags.point.join(", ")}`, warnings });
  });
}

/** A hold in a domain that was destroyed goes all the same: it keeps what nobody can read. */
async function releaseOne(domains: Domains, id: string, signal: AbortSignal): ReturnType<Repository["catalog"]["release"]> {
  const [any] = domains.opened;
  const repository = await domains.holding(id, signal).catch((thrown: unknown) => {
    if (any !== undefined && thrown instanceof RepositoryError && thrown.code === "domain-destroyed") return any;
    throw thrown;
  });
  return await repository.catalog.release(id, signal);
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
