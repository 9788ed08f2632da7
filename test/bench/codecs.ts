/**
 * What the codecs could do at best: standard input, hashed, compressed and sealed by a thread for each processor, with the libraries that backups use
 * and nothing around them: no map, no packs, no store. Ends after the given number of bytes, though more may follow, and prints what it did as JSON.
 *
 *   nbdcopy URI - | node test/bench/codecs.ts BYTES
 *
 * As the threads read from one pipe as they come, pieces of 64 KiB may be torn at another place than a granule's.
 */
import { createCipheriv, createSecretKey, randomBytes } from "node:crypto";
import { closeSync, readSync } from "node:fs";
import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import koffi from "koffi";
import { Packer } from "../../src/repository/format/codec.ts";
import { Codec } from "../../src/repository/format/constants.ts";
import { keyedHash } from "../../src/repository/format/hash.ts";

/** Seconds of one thread, and bytes. */
export interface CodecFigures {
  bytes: number;
  zeroBytes: number;
  storedBytes: number;
  read: number;
  zeros: number;
  hash: number;
  lz4: number;
  seal: number;
}

const PIECE = 65_536;
const BATCH = 16;
const F_SETPIPE_SZ = 1031;

function work(left: BigInt64Array): CodecFigures {
  const figures: CodecFigures = { bytes: 0, zeroBytes: 0, storedBytes: 0, read: 0, zeros: 0, hash: 0, lz4: 0, seal: 0 };
  const room = Buffer.alloc(BATCH * PIECE);
  while (Atomics.load(left, 0) > 0n) {
    const length = stage(figures, "read", () => fill(room));
    if (length === 0) break;
    Atomics.sub(left, 0, BigInt(length));
    figures.bytes += length;
    for (let at = 0; at < length; at += PIECE) crunch(room.subarray(at, Math.min(length, at + PIECE)), figures);
  }
  return figures;
}

function fill(room: Buffer): number {
  let length = 0;
  while (length < room.length) {
    const got = readSync(0, room, length, room.length - length, null);
    if (got === 0) break;
    length += got;
  }
  return length;
}

const zeros = Buffer.alloc(PIECE);
const packer = new Packer();
const key = randomBytes(32);
const sealKey = createSecretKey(randomBytes(32));

function crunch(piece: Buffer, figures: CodecFigures): void {
  if (stage(figures, "zeros", () => piece.equals(zeros.subarray(0, piece.length)))) {
    figures.zeroBytes += piece.length;
    return;
  }
  const hash = stage(figures, "hash", () => keyedHash(key, piece));
  const { bytes } = stage(figures, "lz4", () => packer.pack(piece, Codec.lz4));
  stage(figures, "seal", () => {
    const cipher = createCipheriv("aes-256-gcm", sealKey, hash.subarray(0, 12));
    figures.storedBytes += cipher.update(bytes).length + cipher.final().length + cipher.getAuthTag().length;
  });
}

function stage<T>(figures: CodecFigures, name: "read" | "zeros" | "hash" | "lz4" | "seal", action: () => T): T {
  const started = performance.now();
  const result = action();
  figures[name] += (performance.now() - started) / 1000;
  return result;
}

async function main(): Promise<void> {
  const left = new BigInt64Array(new SharedArrayBuffer(8));
  left[0] = BigInt(process.argv[2] ?? "0");
  // A pipe as large as it may be: less waiting of one side for the other.
  koffi.load(null).func("int fcntl(int fd, int command, int argument)")(0, F_SETPIPE_SZ, 2 ** 20);
  const threads = Array.from({ length: availableParallelism() }, () => new Worker(import.meta.filename, { workerData: left }));
  const all = await Promise.all(
    threads.map(
      async (thread) => await new Promise<CodecFigures>((resolve, reject) => thread.once("message", resolve).once("error", reject)),
    ),
  );
  closeSync(0);
  const sum = (name: keyof CodecFigures): number => all.reduce((total, figures) => total + figures[name], 0);
  const names = Object.keys(all[0] ?? {}) as (keyof CodecFigures)[];
  console.log(JSON.stringify(Object.fromEntries(names.map((name) => [name, sum(name)]))));
}

if (isMainThread) await main();
else parentPort?.postMessage(work(workerData as BigInt64Array));
