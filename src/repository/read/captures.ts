import { FrameKind } from "../format/constants.ts";
import { damagedAt } from "../format/reference.ts";
import { FrameSealer } from "../format/frame.ts";
import { runOfPack } from "../format/pack.ts";
import type { CapturePiece, PointCapture } from "../format/point.ts";
import { packAt } from "../layout.ts";
import type { Repository } from "../repository.ts";

/** The bytes of a file kept with a point, checked piece by piece. */
export async function readCapture(repository: Repository, capture: PointCapture, signal?: AbortSignal): Promise<Buffer> {
  const sealer = new FrameSealer(repository.keys);
  const pieces: Uint8Array[] = [];
  for (const piece of capture.pieces) pieces.push(await readPiece(repository, sealer, piece, signal));
  return Buffer.concat(pieces);
}

/** One piece of such a file by its place, for what need not be in memory as a whole; null after the last. */
export async function readCapturePiece(
  repository: Repository,
  { capture, piece }: { readonly capture: PointCapture; readonly piece: number },
  signal?: AbortSignal,
): Promise<Uint8Array | null> {
  const found = capture.pieces[piece];
  return found === undefined ? null : await readPiece(repository, new FrameSealer(repository.keys), found, signal);
}

async function readPiece(repository: Repository, sealer: FrameSealer, piece: CapturePiece, signal?: AbortSignal): Promise<Uint8Array> {
  const stored = Buffer.allocUnsafe(piece.length);
  await repository.store.read(packAt(repository.domain, piece.pack), piece.offset, stored, signal === undefined ? {} : { signal });
  const { codec, hash, textLength } = piece;
  try {
    return sealer.open(FrameKind.capture, stored, { runId: runOfPack(piece.pack), codec, hash, textLength });
  } catch (cause) {
    throw damagedAt(piece, cause);
  }
}
