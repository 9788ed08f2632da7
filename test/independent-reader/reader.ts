import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { run, tempDir, tierPath } from "../lab/index.ts";

/** A point as the reader lists it. */
export interface ListedPoint {
  readonly id: string;
  readonly vm: string;
  readonly time: string;
  readonly disks: readonly string[];
  readonly captures: readonly string[];
}

/** The independent reader at work on the repository in a directory. Rejects with LabError and the reader's own words when it refuses. */
export class IndependentReader {
  readonly #before: readonly string[];
  readonly #out = tempDir("reader");
  #files = 0;

  /** @param keyFile null: none is given */
  constructor(directory: string, keyFile: string | null, { passphraseFile = "" }: { readonly passphraseFile?: string } = {}) {
    const passphrase = passphraseFile === "" ? [] : ["-passphrase", passphraseFile];
    this.#before = [...(keyFile === null ? [] : ["-key", keyFile]), ...passphrase, directory];
  }

  async points(): Promise<ListedPoint[]> {
    const lines = (await this.#run("points")).split("\n").filter((line) => line !== "");
    return lines.map((line) => JSON.parse(line) as ListedPoint);
  }

  async disk(point: string, name: string): Promise<Buffer> {
    return await this.#file("restore", point, name);
  }

  async capture(point: string, name: string): Promise<Buffer> {
    return await this.#file("capture", point, name);
  }

  /** Opens every frame of every pack by the packs' own tables. */
  async check(): Promise<{ readonly packs: number; readonly frames: number }> {
    return JSON.parse(await this.#run("check")) as { packs: number; frames: number };
  }

  async #file(...args: readonly string[]): Promise<Buffer> {
    const path = join(this.#out, `${this.#files++}`);
    await this.#run(...args, path);
    const bytes = readFileSync(path);
    rmSync(path);
    return bytes;
  }

  async #run(...args: readonly string[]): Promise<string> {
    return await run(tierPath("reader"), [...this.#before, ...args]);
  }
}
