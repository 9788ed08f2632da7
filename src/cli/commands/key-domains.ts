import type { DomainView, KeyRing } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withKeyRing, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { writeKeyFile } from "../key-file.ts";
import { table } from "../table.ts";
import { UsageError } from "../usage-error.ts";

/** `thinstream key domains`: the parts of a repository that have a key of their own. */
export async function keyDomains(flags: RepositoryFlags, context: Context): Promise<Outcome> {
  return await withKeyRing(flags, context, async (ring) => {
    const domains = await ring.domains();
    const warnings = domains.filter(({ detail }) => detail !== "").map(({ id, name, detail }) => `${name ?? id}: ${detail}`);
    const rows = domains.map(({ id, name, points, created, state, destroyed }) => [
      name ?? "?",
      id,
      points === null ? "?" : String(points),
      created ?? "?",
      destroyed === null ? state : `${state} ${destroyed}`,
    ]);
    return {
      json: { domains, warnings },
      text: [table(["DOMAIN", "ID", "POINTS", "CREATED", "STATE"], rows), ...warnings].join("\n"),
      exitCode: warnings.length === 0 ? ExitCode.ok : ExitCode.warnings,
    };
  });
}

export interface KeyAddDomainFlags extends RepositoryFlags {
  readonly domain: string;
}

/** `thinstream key add-domain`: makes one, where writers have no right to. One that is there already stays as it is. */
export async function keyAddDomain(flags: KeyAddDomainFlags, context: Context): Promise<Outcome> {
  const { domain } = flags;
  return await withRepository({ ...flags, keyDomain: domain }, context, async ({ domain: id }) => {
    return await Promise.resolve({ json: { domain, id }, text: `The repository has the domain ${domain} (${id})`, exitCode: ExitCode.ok });
  });
}

export interface KeyExportDomainFlags extends RepositoryFlags {
  readonly domain: string;
  readonly newKeyFile: string;
}

/** `thinstream key export-domain`: a key file for one domain alone. */
export async function keyExportDomain(flags: KeyExportDomainFlags, context: Context): Promise<Outcome> {
  const { domain, newKeyFile: path } = flags;
  return await withKeyRing(flags, context, async (ring) => {
    if (!(await writeKeyFile(path, await ring.exportDomain(domain))))
      throw new UsageError(`${path} is there already`, { hint: "Name a file that does not exist" });
    const text = [
      `${path} opens the domain ${domain}, and no other: whoever has it, and may read the bucket, lists, restores and checks its points`,
      "It cannot be taken back: a rotation of the repository's key does not end it, and where the domain is destroyed it opens what prune has not removed yet",
    ].join("\n");
    return { json: { domain, keyFile: path }, text, exitCode: ExitCode.ok };
  });
}

export interface KeyDestroyDomainFlags extends RepositoryFlags {
  readonly domain: string;
  readonly confirm?: string;
}

/** `thinstream key destroy-domain`: nobody reads what is in it any more. Needs the right to delete in the store. */
export async function keyDestroyDomain(flags: KeyDestroyDomainFlags, context: Context): Promise<Outcome> {
  const { domain, confirm } = flags;
  return await withKeyRing(flags, context, async (ring) => {
    if (confirm !== domain) await refuse(ring, domain, confirm);
    const { time, already, machines } = await ring.destroyDomain(domain);
    const said = already ? `The domain ${domain} was destroyed before (${time})` : `Destroyed the key of the domain ${domain}`;
    const text = [`${said}: nothing of its ${machines} machines can be restored from the bucket as it is now`, ...AFTER].join("\n");
    return { json: { domain, time, already, machines }, text, exitCode: ExitCode.ok };
  });
}

const AFTER = [
  "Prune removes its restore points after 30 hours, and its packs after 60",
  "If the bucket keeps old versions of objects (versioning, Object Lock), the key lies there, sealed, until those of keys/ end: who has the repository's key reads it there until then",
  "Who has a file of `thinstream key export-domain`, or an older copy of the bucket, reads with it what is in the bucket yet",
];

async function refuse(ring: KeyRing, domain: string, confirm: string | undefined): Promise<never> {
  const found = (await ring.domains()).find(({ name, id }) => name === domain || id === domain);
  throw new UsageError(
    confirm === undefined ? whatWouldGo(domain, found) : `--confirm ${confirm} is not ${domain}: nothing was destroyed`,
    {
      hint: `If that is meant, say --confirm ${domain}; it cannot be undone`,
    },
  );
}

function whatWouldGo(domain: string, found: DomainView | undefined): string {
  if (found === undefined) return `The repository has no domain ${domain}`;
  if (found.state === "destroyed") return `The domain ${domain} is destroyed already`;
  return `This would make ${found.points ?? "all"} restore points of the domain ${domain} unreadable for ever, and nothing else`;
}
