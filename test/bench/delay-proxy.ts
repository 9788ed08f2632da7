import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A TCP proxy on a loopback port that holds back what passes, in each direction, and limits no bandwidth. */
export interface DelayProxy {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Starts one in front of a loopback port. `delay` in ms, one way: a round trip takes twice as long, and a connection one round trip to be made.
 * Slow start and loss, which a real distance has as well, are not played.
 */
export async function delayProxy(target: number, delay: number): Promise<DelayProxy> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const upstream = connect({ port: target, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      socket.on("error", () => {
        client.destroy();
        upstream.destroy();
      });
    }
    // On the way there also what the handshake takes: it was local and took nothing.
    pass(client, upstream, delay, performance.now() + 2 * delay);
    pass(upstream, client, delay, 0);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Bytes one direction of one connection may have on their way: more than any that is in use here needs (delay × bandwidth), and not without end. */
const WINDOW = 64 * 2 ** 20;

/** Passes on from one socket to the other, everything `delay` ms after it came and nothing before `notBefore` + `delay`. */
function pass(from: Socket, to: Socket, delay: number, notBefore: number): void {
  const waiting: { readonly due: number; readonly chunk: Buffer | null }[] = [];
  let held = 0;
  let timer: NodeJS.Timeout | undefined;
  const release = (): void => {
    timer = undefined;
    const now = performance.now();
    while (waiting[0] !== undefined && waiting[0].due <= now) {
      const { chunk } = waiting.shift() as { chunk: Buffer | null };
      if (chunk === null) return void to.end();
      held -= chunk.length;
      to.write(chunk);
    }
    if (held + to.writableLength < WINDOW) from.resume();
    if (waiting[0] !== undefined) timer = setTimeout(release, Math.max(0, waiting[0].due - now));
  };
  const hold = (chunk: Buffer | null): void => {
    waiting.push({ due: Math.max(performance.now(), notBefore) + delay, chunk });
    held += chunk?.length ?? 0;
    if (held + to.writableLength >= WINDOW) from.pause();
    if (delay === 0) release();
    else timer ??= setTimeout(release, delay);
  };
  from.on("data", (chunk: Buffer) => hold(chunk));
  from.once("end", () => hold(null));
  to.on("drain", () => from.resume());
  to.once("close", () => {
    clearTimeout(timer);
    from.destroy();
  });
}
