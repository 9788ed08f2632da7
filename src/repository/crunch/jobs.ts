import type { Codec } from "../format/constants.ts";
import type { DomainKeys } from "../format/keys.ts";

/** What a thread is told once. Memory is shared, the rest copied. */
export interface ThreadSetup {
  readonly keys: DomainKeys;
  readonly slots: readonly SharedArrayBuffer[];
  /** where fetched frames lie, for restores */
  readonly windows: readonly SharedArrayBuffer[];
}

/** Hash, compare, compress and seal the first `count` granules of a slot. */
export interface SealJob {
  readonly op: "seal";
  readonly slot: number;
  readonly count: number;
  readonly runId: Uint8Array;
  readonly codec: Codec;
}

/** Open `frames` into the slot's granules, in order. */
export interface OpenJob {
  readonly op: "open";
  readonly slot: number;
  readonly window: number;
  readonly frames: readonly OpenFrame[];
}

export interface OpenFrame {
  /** bytes into the window */
  readonly at: number;
  readonly length: number;
  readonly codec: number;
  readonly hash: Uint8Array;
  readonly runId: Uint8Array;
}

/** Nothing follows: let the thread end by itself. Ending it from outside, in the midst of a native call, can end the process. */
export interface EndJob {
  readonly op: "end";
}

export type Job = SealJob | OpenJob;
export type Done = { readonly ok: true } | { readonly ok: false; readonly message: string };
