import type { FrozenMessage } from "../../api/index.ts";
import { withTimeout } from "../../lib/abort.ts";
import type { Freezer, Frozen } from "../libvirt-pull/freeze.ts";
import type { Board } from "./board.ts";

export interface ControllerFreezerOptions {
  /** how long the controller may take, ms */
  readonly ms: number;
  readonly signal: AbortSignal;
}

/** Has the controller freeze and thaw: it sees the phases `Freeze` and `Begun`, and answers the first. */
export class ControllerFreezer implements Freezer {
  readonly #board: Board;
  readonly #options: ControllerFreezerOptions;
  #answer: ((message: FrozenMessage) => void) | null = null;
  #frozen = false;

  constructor(board: Board, options: ControllerFreezerOptions) {
    this.#board = board;
    this.#options = options;
  }

  obstacle(): Promise<null> {
    return Promise.resolve(null);
  }

  async freeze(): Promise<Frozen> {
    const { promise, resolve } = Promise.withResolvers<{ readonly message: FrozenMessage; readonly at: number }>();
    this.#answer = (message) => resolve({ message, at: performance.now() });
    try {
      this.#board.enter("Freeze");
      const { message, at } = await withTimeout({ ...this.#options, what: "the controller's freeze" }, async () => await promise);
      if (!message.ok) throw new Error(message.message);
      return { fileSystems: null, until: at + message.remainingMs };
    } finally {
      this.#answer = null;
    }
  }

  /** Tells the controller to thaw. How that went only it knows: the guest is thawed by the time limit of the freeze if by nothing else. */
  thaw(): Promise<null> {
    this.#frozen = false;
    this.#board.enter("Begun");
    return Promise.resolve(null);
  }

  /**
   * Takes the controller's answer; false where none is waited for. A second one is of a controller that began anew: the guest is frozen as it should be, and
   * would be thawed under the job's beginning if that were said to be of no use.
   */
  answered(message: FrozenMessage): boolean {
    if (this.#answer === null) return this.#frozen;
    this.#frozen = message.ok;
    this.#answer(message);
    this.#answer = null;
    return true;
  }
}
