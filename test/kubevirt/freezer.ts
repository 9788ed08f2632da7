import { Refusal } from "../cluster/index.ts";
import type { Api } from "../node/index.ts";
import { ignore } from "../node/index.ts";
import type { Machine } from "./machine.ts";
import { vmiPath } from "./objects.ts";

const FIVE_MINUTES = 300_000;

/** Freezes guests' file systems through their agents, and thaws them when nobody else does. */
export class Freezer {
  readonly #api: Api;
  readonly #machine: (name: string) => Machine | undefined;
  readonly #timers: Map<string, NodeJS.Timeout> = new Map();
  /** Every call that came, in order: `freeze default/web`. */
  readonly calls: string[] = [];

  constructor(api: Api, machine: (name: string) => Machine | undefined) {
    this.#api = api;
    this.#machine = machine;
  }

  /** @throws Refusal in KubeVirt's words */
  async freeze(machine: Machine, body: string): Promise<void> {
    this.calls.push(`freeze ${machine.name}`);
    const { status } = await this.#api.get<{ status: { migrationState?: { completed?: boolean } } }>(vmiPath(machine.vmi));
    if (status.migrationState !== undefined && status.migrationState.completed !== true)
      throw new Refusal(409, "Conflict", "VMI is being migrated");
    // A second freeze begins the time anew and is no error.
    if (!this.#timers.has(machine.name)) {
      await machine.launcher.virsh("domfsfreeze", machine.launcher.name).catch((cause: unknown) => {
        throw new Refusal(500, "InternalError", `failed to freeze: ${String(cause)}`);
      });
      await this.#api.patch(vmiPath(machine.vmi), { status: { fsFreezeStatus: "frozen" } });
    }
    clearTimeout(this.#timers.get(machine.name));
    const thaw = (): void => {
      const now = this.#machine(machine.name);
      if (now !== undefined) void this.#thaw(now).catch(() => undefined);
    };
    this.#timers.set(machine.name, setTimeout(thaw, timeoutOf(body)).unref());
  }

  /** @throws Refusal */
  async unfreeze(machine: Machine): Promise<void> {
    this.calls.push(`unfreeze ${machine.name}`);
    await this.#thaw(machine);
  }

  isFrozen(machine: Machine): boolean {
    return this.#timers.has(machine.name);
  }

  forget(name: string): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  stop(): void {
    for (const name of this.#timers.keys()) this.forget(name);
  }

  async #thaw(machine: Machine): Promise<void> {
    this.forget(machine.name);
    await machine.launcher.virsh("domfsthaw", machine.launcher.name).catch((cause: unknown) => {
      throw new Refusal(500, "InternalError", `failed to unfreeze: ${String(cause)}`);
    });
    await this.#api.patch(vmiPath(machine.vmi), { status: { fsFreezeStatus: null } }).catch(ignore(404));
  }
}

const UNITS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** `unfreezeTimeout` of a freeze, `5m0s`, in milliseconds. */
function timeoutOf(body: string): number {
  const { unfreezeTimeout } = JSON.parse(body === "" ? "{}" : body) as { unfreezeTimeout?: string };
  if (unfreezeTimeout === undefined) return FIVE_MINUTES;
  const parts = [...unfreezeTimeout.matchAll(/([\d.]+)(ms|[hms])/g)];
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * (UNITS[unit ?? ""] ?? 0), 0);
}
