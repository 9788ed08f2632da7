import { existsSync } from "node:fs";
import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { StoreTrials } from "../conformance/check.ts";
import { plainTrials, removeAll } from "../conformance/plain-trials.ts";

/** A directory shows everything through the port; what it leaves behind are directories without objects. */
export function fsTrials(path: string): StoreTrials {
  const wasThere = existsSync(path);
  return {
    ...plainTrials,
    cleanUp: async (trial) => {
      const left = await removeAll(trial);
      await removeEmpty(join(path, trial.prefix));
      if (!wasThere) await removeEmpty(path);
      return left;
    },
  };
}

/** Removes a directory and those in it as far as they hold no files. */
async function removeEmpty(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeEmpty(join(directory, entry.name));
  await rmdir(directory).catch(() => undefined);
}
