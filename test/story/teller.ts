import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { chart } from "../chart/chart.ts";
import type { Identity } from "../cluster/index.ts";
import { tempDir } from "../lab/index.ts";
import type { Shown } from "./usage.ts";

/** Tells the story: runs what it shows, and keeps it. */
export class Teller {
  readonly shown: Shown[] = [];
  readonly #print: (text: string) => void;
  readonly #dir: string = mkdtempSync(join(tempDir("story"), "files-"));
  readonly #paths: Map<string, string> = new Map([["charts/thinstream", chart]]);
  readonly #began: number = performance.now();
  #step: { readonly title: string; readonly since: number } | null = null;
  readonly #times: { readonly title: string; readonly seconds: number }[] = [];

  /** @param print where it is told to; by default nobody hears it */
  constructor(print: (text: string) => void = () => undefined) {
    this.#print = print;
  }

  /** What each step took, the one that is told included. */
  get times(): readonly { readonly title: string; readonly seconds: number }[] {
    return this.#step === null ? this.#times : [...this.#times, this.#took(this.#step)];
  }

  step(title: string): void {
    if (this.#step !== null) this.#times.push(this.#took(this.#step));
    this.#step = { title, since: performance.now() };
    this.#print(`\n== ${title} [${((performance.now() - this.#began) / 1000).toFixed(0)} s]`);
  }

  say(text: string): void {
    this.#print(text);
  }

  /** A manifest or values file that later commands name. */
  file(name: string, ...documents: readonly object[]): void {
    const text = documents.map((one) => stringify(one, { lineWidth: 0 })).join("---\n");
    const path = join(this.#dir, name);
    writeFileSync(path, text);
    this.#paths.set(name, path);
    this.#show({ title: name, text: text.trimEnd() }, `$ cat ${name}`);
  }

  /** Runs a kubectl or helm command line as it is shown. @throws ClusterError */
  async run(line: string, who: Identity): Promise<string> {
    const [program, ...words] = [...line.matchAll(/'([^']*)'|\S+/g)].map(([word, quoted]) => quoted ?? word);
    const args = words.map((word) => this.#paths.get(word) ?? word);
    const said = program === "helm" ? await who.helm(args, { timeoutMs: 240_000 }) : await who.kubectl(args);
    const text = [...this.#paths].reduce((so, [name, path]) => so.replaceAll(path, name), said).trimEnd();
    this.#show({ title: line, text }, `$ ${line}`);
    return text;
  }

  #show(shown: Shown, prompt: string): void {
    this.shown.push(shown);
    this.#print(`${prompt}\n${shown.text}\n`);
  }

  #took({ title, since }: { readonly title: string; readonly since: number }): { readonly title: string; readonly seconds: number } {
    return { title, seconds: (performance.now() - since) / 1000 };
  }
}
