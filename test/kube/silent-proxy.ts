import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { connect, createServer } from "node:net";

/** A way to a server that can fall silent: connections stay open and nothing comes through any more, as when a machine loses its power. */
export interface SilentProxy {
  readonly port: number;
  /** What is connected now hears nothing more; who connects from now on does. */
  silence(): void;
  stop(): Promise<void>;
}

const ANY = { host: "127.0.0.1", port: 0 } as const;

/** In front of a loopback port; it listens on another one, or where it is told. */
export async function startSilentProxy(to: number, at: { readonly host: string; readonly port: number } = ANY): Promise<SilentProxy> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(to, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far).pipe(near);
  });
  server.listen(at);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    silence: () => {
      for (const socket of sockets) socket.unpipe().pause();
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
