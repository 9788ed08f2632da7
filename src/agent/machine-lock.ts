import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { SourceError } from "./errors.ts";

/**
 * Holds the one place for a backup of a machine (`key` names it) on this host until the returned function is called or the process ends, however
 * it ends: a socket in Linux's abstract namespace. Rejects `busy` where another holds it.
 */
export function lockMachine(key: string, name: string): Promise<() => Promise<void>> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (cause) => reject(busy(name, cause)));
    const place = createHash("sha256").update(key).digest("hex");
    server.listen(`\0thinstream/${place}`, () => {
      server.unref();
      resolve(() => new Promise((closed) => server.close(() => closed())));
    });
  });
}

/** The one line that a second backup of a machine ends with. */
export function busy(name: string, cause?: unknown): SourceError {
  return new SourceError("busy", `another backup of "${name}" is running`, { cause, hint: "wait for it to end" });
}
