import type { ImageTarget } from "../repository/index.ts";

/** A target with a life: written, then either finished (durable, under its name) or discarded (as if it had never been begun, where that can be). */
export interface RestoreTarget extends ImageTarget {
  /** where people find it */
  readonly path: string;
  finish(): Promise<void>;
  /** Safe after any failure, and twice. */
  discard(): Promise<void>;
}
