import { collectDefaultMetrics, Registry } from "prom-client";

import { machineReadings } from "./machine-readings.ts";
import { objectReadings } from "./object-readings.ts";
import { processReadings } from "./process-readings.ts";
import { PREFIX, type Reading, registerReading } from "./reading.ts";
import { RequestFigures } from "./request-figures.ts";
import { RunFigures } from "./run-figures.ts";
import { type Scene, Sight } from "./sight.ts";

/** All that is read at the moment of asking. */
export const readings: readonly Reading[] = [...machineReadings, ...objectReadings, ...processReadings];

/** The controller's metrics. What the cluster has is read at each scrape; what runs came to is counted as they end. */
export class Metrics {
  /** Of the text, for `Content-Type`. */
  readonly contentType: string;
  readonly registry: Registry = new Registry();
  readonly runs: RunFigures;
  readonly requests: RequestFigures;
  readonly #scene: () => Scene;
  #sight: Sight;
  #rendering: Promise<string> | null = null;

  /** @param ofProcess whether Node's and the process' own figures are there too */
  constructor(scene: () => Scene, { ofProcess }: { readonly ofProcess: boolean }) {
    this.#scene = scene;
    this.#sight = new Sight(scene());
    for (const reading of readings) registerReading(this.registry, reading, () => this.#sight);
    this.runs = new RunFigures(this.registry);
    this.requests = new RequestFigures(this.registry);
    if (ofProcess) collectDefaultMetrics({ register: this.registry, prefix: PREFIX });
    this.contentType = this.registry.contentType;
  }

  /** The text that Prometheus reads. Whoever asks meanwhile gets the same: many scrapers cost no more than one. */
  async text(): Promise<string> {
    this.#rendering ??= this.#render().finally(() => (this.#rendering = null));
    return await this.#rendering;
  }

  async #render(): Promise<string> {
    this.#sight = new Sight(this.#scene());
    return await this.registry.metrics();
  }
}
