import { Counter, Gauge, type Registry } from "prom-client";

import type { Sight } from "./sight.ts";

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric whose values are read when somebody asks: nothing is kept, so nothing drifts, and what is gone is not told. */
export interface Reading {
  /** without the common prefix */
  readonly name: string;
  readonly type: "gauge" | "counter";
  readonly help: string;
  readonly labels: readonly string[];
  readonly read: (sight: Sight) => Iterable<Sample>;
}

export const PREFIX = "thinstream_";

/** Registers a reading, whose values are then those of what `sight` gives. */
export function registerReading(registry: Registry, { name, type, help, labels, read }: Reading, sight: () => Sight): void {
  const common = { name: PREFIX + name, help, labelNames: labels, registers: [registry] };
  if (type === "gauge") {
    const gauge = new Gauge({ ...common, collect: () => each((sample) => gauge.set({ ...sample.labels }, sample.value)) });
    const each = (set: (sample: Sample) => void): void => {
      gauge.reset();
      for (const sample of read(sight())) set(sample);
    };
  } else {
    const counter = new Counter({ ...common, collect: () => each((sample) => counter.inc({ ...sample.labels }, sample.value)) });
    const each = (add: (sample: Sample) => void): void => {
      counter.reset();
      for (const sample of read(sight())) add(sample);
    };
  }
}

/** One sample without labels. */
export function alone(value: number): readonly Sample[] {
  return [{ labels: {}, value }];
}

/** RFC 3339 as seconds of the epoch; 0 for what never was. */
export function secondsOf(time: string | undefined): number {
  return time === undefined ? 0 : Date.parse(time) / 1000;
}
