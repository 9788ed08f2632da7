import { parseEmpty } from "../../api/index.ts";
import { systemClock } from "../../lib/clock.ts";
import type { ChannelServer, Route } from "./channel-server.ts";
import { OrderError } from "./errors.ts";
import type { OrderJob } from "./job.ts";

const LOOK_MS = 250;

/** The end of an agent that serves: the controller has fetched everything, or nobody asks any more. */
export class Serving {
  #done = false;
  #failure: unknown;
  readonly routes: Readonly<Record<string, Route>> = {
    "POST /done": ({ body }) => {
      parseEmpty(body);
      this.#done = true;
      return Promise.resolve({});
    },
  };

  /** Ends the agent with this error once it is answered. */
  fail(thrown: unknown): void {
    this.#failure ??= thrown;
  }

  /** Resolves when everything was fetched. Rejects `not-fetched` after too long without a request. */
  async untilDone({ board, signal, servingMs }: OrderJob, channel: ChannelServer): Promise<void> {
    board.enter("Serving");
    const since = performance.now();
    while (!this.#done) {
      if (this.#failure !== undefined) throw this.#failure;
      const idle = Math.min(channel.idle, performance.now() - since);
      if (idle > servingMs) {
        throw new OrderError("not-fetched", `Nobody has asked the agent anything for ${Math.round(servingMs / 1000)} s, so it ended`, {
          hint: "The controller may have been restarted, or a network policy may keep it from the agent's port",
        });
      }
      await systemClock.sleep(LOOK_MS, signal);
    }
  }
}
