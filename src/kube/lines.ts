import { KubeError } from "./errors.ts";

const NEWLINE = 0x0a;

/** Splits a stream into its lines as they come; holds no more than one that is not complete. Empty lines are left out. */
export async function* splitLines(chunks: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<string, void, undefined> {
  let begun: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      const piece = chunk.subarray(from, end);
      check(size + piece.length, maxBytes);
      const line = Buffer.concat([...begun, piece]).toString("utf8");
      begun = [];
      size = 0;
      from = end + 1;
      if (line !== "") yield line;
    }
    if (from < chunk.length) {
      begun.push(chunk.subarray(from));
      size += chunk.length - from;
      check(size, maxBytes);
    }
  }
  // What has no line break was cut off.
}

function check(size: number, maxBytes: number): void {
  if (size > maxBytes) throw new KubeError("unavailable", `the API server sent a line of more than ${maxBytes} bytes`);
}
