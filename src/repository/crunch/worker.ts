/** A thread that does the arithmetic of backups and restores on shared memory; see `slot.ts`. */
import { parentPort, workerData } from "node:worker_threads";

import { errorText } from "../../lib/errors.ts";
import { FrameKind, GRANULE } from "../format/constants.ts";
import { FormatError } from "../format/errors.ts";
import { FrameSealer, type SealedFrame } from "../format/frame.ts";
import type { Done, EndJob, Job, OpenJob, SealJob, ThreadSetup } from "./jobs.ts";
import { Outcome, Slot } from "./slot.ts";

/** One sealed granule in so many is opened again before it is trusted. */
const PROOF_EVERY = 64;

/**
 * Granules after which the young garbage goes. Every frame leaves buffers behind that weigh next to nothing on V8's scales and 64 KiB on the machine's:
 * left to itself a thread holds hundreds of MiB of them. A minor collection takes a fraction of a millisecond.
 */
const COLLECT_EVERY = 64;

const setup = workerData as ThreadSetup;
const slots = setup.slots.map((memory) => new Slot(memory));
const windows = setup.windows.map((memory) => Buffer.from(memory));
const sealer = new FrameSealer(setup.keys);
const zeros = Buffer.alloc(GRANULE);
let sealed = 0;
let sinceCollection = 0;

function sealGranule(slot: Slot, i: number, job: SealJob): void {
  const text = slot.text(i);
  if (text.equals(zeros)) return slot.setOutcome(i, Outcome.zero);
  const hash = sealer.hash(FrameKind.granule, text);
  hash.copy(slot.hash(i));
  const same = slot.matchingReference(i, hash);
  if (same >= 0) return slot.setOutcome(i, Outcome.same, same);
  const frame = sealer.seal(FrameKind.granule, text, { runId: job.runId, codec: job.codec, hash });
  const room = slot.storedRoom(i);
  let length = 0;
  for (const piece of frame.stored) {
    room.set(piece, length);
    length += piece.length;
  }
  if (sealed++ % PROOF_EVERY === 0) prove(frame, room.subarray(0, length), job);
  slot.setStoredLength(i, length);
  slot.setOutcome(i, Outcome.data, frame.codec);
}

/** Distrust our own output: what does not open again never reaches a pack. */
function prove(frame: SealedFrame, stored: Buffer, job: SealJob): void {
  sealer.open(FrameKind.granule, stored, { runId: job.runId, codec: frame.codec, hash: frame.hash, textLength: GRANULE });
}

function openFrames(job: OpenJob): void {
  const slot = slotOf(job);
  const window = windows[job.window] as Buffer;
  job.frames.forEach((frame, i) => {
    try {
      const room = slot.text(i);
      const text = sealer.open(FrameKind.granule, window.subarray(frame.at, frame.at + frame.length), {
        ...frame,
        textLength: GRANULE,
        into: room,
      });
      if (text !== room) room.set(text);
      slot.setOutcome(i, Outcome.data);
    } catch (thrown) {
      if (!(thrown instanceof FormatError)) throw thrown;
      slot.setOutcome(i, Outcome.damaged);
    }
  });
}

function slotOf(job: Job): Slot {
  return slots[job.slot] as Slot;
}

// In a turn of its own each: the finalizers that free native buffers run between turns, and messages alone never end one.
parentPort?.on("message", (job: Job | EndJob) => {
  if (job.op === "end") setImmediate(() => parentPort?.close());
  else setImmediate(() => work(job));
});

function work(job: Job): void {
  let done: Done;
  try {
    if (job.op === "seal") for (let i = 0; i < job.count; i++) sealGranule(slotOf(job), i, job);
    else openFrames(job);
    done = { ok: true };
  } catch (thrown) {
    done = { ok: false, message: errorText(thrown) };
  }
  parentPort?.postMessage(done);
  sinceCollection += job.op === "seal" ? job.count : job.frames.length;
  if (sinceCollection < COLLECT_EVERY) return;
  sinceCollection = 0;
  globalThis.gc?.({ type: "minor", execution: "sync" });
}
