import type { LibvirtDomain } from "../../libvirt/index.ts";
import { AGENT_WITHOUT_LIMIT } from "../captures.ts";
import type { Freezer, Frozen } from "./freeze.ts";

const THAW_TRIES = 3;

export interface LibvirtFreezerOptions {
  /** all where empty */
  readonly mountPoints: readonly string[];
  /** seconds the guest agent may take */
  readonly timeout: number;
  readonly hasAgent: boolean;
}

/** Freezes by libvirt's call to the guest agent. */
export class LibvirtFreezer implements Freezer {
  readonly #domain: LibvirtDomain;
  readonly #options: LibvirtFreezerOptions;

  constructor(domain: LibvirtDomain, options: LibvirtFreezerOptions) {
    this.#domain = domain;
    this.#options = options;
  }

  async obstacle(): Promise<string | null> {
    return (await notRunning(this.#domain)) ?? (this.#options.hasAgent ? null : "the machine has no guest agent channel");
  }

  async freeze(): Promise<Frozen> {
    await this.#domain.agentTimeout(this.#options.timeout).catch(() => undefined); // an older driver waits as long as the agent does
    return { fileSystems: await this.#domain.fsFreeze(this.#options.mountPoints), until: null };
  }

  async thaw(): Promise<number> {
    try {
      for (let tries = 1; ; tries += 1) {
        try {
          return await this.#domain.fsThaw();
        } catch (error) {
          if (tries === THAW_TRIES) throw error;
        }
      }
    } finally {
      await this.#domain.agentTimeout(AGENT_WITHOUT_LIMIT).catch(() => undefined);
    }
  }
}

/** Why a machine in its present state cannot be frozen; null where it can be. */
export async function notRunning(domain: LibvirtDomain): Promise<string | null> {
  const state = await domain.state();
  return state === "running" || state === "blocked" ? null : `the machine is ${state}, and only a running guest can be frozen`;
}
