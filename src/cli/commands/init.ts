import { probeStore } from "../../objectstore/index.ts";
import { Repository } from "../../repository/index.ts";
import { type Context, type Outcome, withStore } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { keyFileFrom, readOrMakeKeyFile } from "../key-file.ts";
import { UsageError } from "../usage-error.ts";

export interface InitFlags {
  readonly repo: string;
  readonly keyFile?: string;
  /** commander's form of --no-encryption */
  readonly encryption: boolean;
}

/** `thinstream init`: an empty repository, and its key where there is none yet. */
export async function init(flags: InitFlags, context: Context): Promise<Outcome> {
  const path = flags.encryption ? keyFileFrom(flags.keyFile) : null;
  if (!flags.encryption && flags.keyFile !== undefined) throw new UsageError("--no-encryption and --key-file exclude each other");
  if (flags.encryption && path === null) {
    throw new UsageError("A repository needs a key", { hint: "Give --key-file FILE (made where it does not exist), or --no-encryption" });
  }
  return await withStore(flags.repo, context, async (store) => {
    await probeStore(store, { signal: context.signal });
    const made = path === null ? null : await readOrMakeKeyFile(path);
    try {
      const repository = await Repository.init({ store, key: made?.key ?? null, signal: context.signal });
      const json = {
        repository: repository.config.id.toString("hex"),
        url: store.url,
        encrypted: repository.config.encrypted,
        keyFile: path,
      };
      const key =
        path === null
          ? "Not encrypted."
          : `Key file: ${path}${made?.made === true ? " (new). Keep a copy elsewhere: without it nothing can be restored." : ""}`;
      return { json, text: `Made a repository at ${store.url}\n${key}`, exitCode: ExitCode.ok };
    } catch (thrown) {
      await made?.undo();
      throw thrown;
    }
  });
}
