import { LibvirtCheckpoint } from "./checkpoint.ts";
import { LibvirtError } from "./errors.ts";
import type { LibvirtLink } from "./link.ts";
import type { Address, TypedParameters } from "./native.ts";

/** virDomainState in words. */
export type DomainState = "nostate" | "running" | "blocked" | "paused" | "shutdown" | "shutoff" | "crashed" | "pmsuspended";

const states: readonly DomainState[] = ["nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"];

/** What a domain's current (or, with `completed`, last) job is. */
export interface JobStats {
  /** none 0, bounded 1, unbounded 2, completed 3, failed 4, cancelled 5 */
  readonly type: number;
  readonly isBackup: boolean;
  readonly parameters: TypedParameters;
}

const BACKUP_OPERATION = 9; // VIR_DOMAIN_JOB_OPERATION_BACKUP

/** A domain of a connection; `close` frees it, as closing the connection does. Every method rejects with a `LibvirtError`. */
export class LibvirtDomain {
  readonly label: string;
  readonly #link: LibvirtLink;
  #object: Address | null;

  constructor(link: LibvirtLink, object: Address, label: string) {
    this.#link = link;
    this.#object = object;
    this.label = label;
  }

  get #handle(): Address {
    if (this.#object === null) throw new LibvirtError("closed", `domain ${this.label} is closed`);
    void this.#link.connection;
    return this.#object;
  }

  async state(signal?: AbortSignal): Promise<DomainState> {
    const state = new Int32Array(1);
    await this.#link.number(`asking for the state of ${this.label}`, signal, "virDomainGetState", this.#handle, state, null, 0);
    return states[state[0] ?? 0] ?? "nostate";
  }

  async isActive(signal?: AbortSignal): Promise<boolean> {
    const state = await this.state(signal);
    return state !== "shutoff" && state !== "crashed" && state !== "nostate";
  }

  async isPersistent(signal?: AbortSignal): Promise<boolean> {
    return (await this.#link.number(`asking whether ${this.label} is persistent`, signal, "virDomainIsPersistent", this.#handle)) === 1;
  }

  /** Which run of the machine this is: libvirt's id of it (-1 when off) and the CPU time it has used so far, in ns. */
  async instance(signal?: AbortSignal): Promise<{ readonly id: number; readonly cpuTime: number }> {
    // struct virDomainInfo: state, maxMem, memory, nrVirtCpu, cpuTime, each in eight bytes
    const info = new BigUint64Array(5);
    await this.#link.number(`asking for the CPU time of ${this.label}`, signal, "virDomainGetInfo", this.#handle, info);
    return { id: this.#link.library.domainId(this.#handle) | 0, cpuTime: Number(info[4]) };
  }

  /** Its XML: live, or with `inactive` as it will be after the next start. */
  async xml(options: { readonly inactive?: boolean; readonly signal?: AbortSignal } = {}): Promise<string> {
    const flags = options.inactive === true ? 2 : 0; // VIR_DOMAIN_XML_INACTIVE
    return await this.#link.text(`reading the XML of ${this.label}`, options.signal, "virDomainGetXMLDesc", this.#handle, flags);
  }

  /** Starts a defined domain. */
  async start(options: { readonly paused?: boolean } = {}): Promise<void> {
    await this.#link.number(`starting ${this.label}`, undefined, "virDomainCreateWithFlags", this.#handle, options.paused === true ? 1 : 0);
  }

  /** Ends the machine at once. */
  async destroy(): Promise<void> {
    await this.#link.number(`ending ${this.label}`, undefined, "virDomainDestroy", this.#handle);
  }

  /** Removes its definition with what belongs to it: managed save, snapshot and checkpoint metadata; NVRAM where `nvram` says so. */
  async undefine(options: { readonly nvram?: boolean } = {}): Promise<void> {
    // MANAGED_SAVE 1, SNAPSHOTS_METADATA 2, NVRAM 4, KEEP_NVRAM 8, CHECKPOINTS_METADATA 16
    const flags = 1 | 2 | 16 | (options.nvram === true ? 4 : 8);
    await this.#link.number(`undefining ${this.label}`, undefined, "virDomainUndefineFlags", this.#handle, flags);
  }

  /** How long the guest agent may take from now on, in seconds; -2 for as long as it likes, libvirt's default. */
  async agentTimeout(seconds: number): Promise<void> {
    const what = `setting the guest agent's time limit of ${this.label}`;
    await this.#link.number(what, undefined, "virDomainAgentSetResponseTimeout", this.#handle, seconds, 0);
  }

  /** Freezes the guest's file systems (all, or these mount points) and resolves with how many. Rejects `agent-unresponsive` without an agent. */
  async fsFreeze(mountPoints: readonly string[] = [], signal?: AbortSignal): Promise<number> {
    const list = this.#link.library.strings(mountPoints);
    return await this.#link.number(`freezing ${this.label}`, signal, "virDomainFSFreeze", this.#handle, list, mountPoints.length, 0);
  }

  /** Thaws what is frozen and resolves with how many file systems that were. */
  async fsThaw(signal?: AbortSignal): Promise<number> {
    return await this.#link.number(`thawing ${this.label}`, signal, "virDomainFSThaw", this.#handle, null, 0, 0);
  }

  /** What the guest agent tells: users, OS, time zone, host name, file systems, disks, interfaces, as libvirt names them. */
  async guestInfo(signal?: AbortSignal): Promise<TypedParameters> {
    const array = new BigUint64Array(1);
    const count = new Int32Array(1);
    await this.#link.number(`asking the guest agent of ${this.label}`, signal, "virDomainGetGuestInfo", this.#handle, 0, array, count, 0);
    return this.#parameters(array, count);
  }

  #parameters(array: BigUint64Array, count: Int32Array): TypedParameters {
    const address = array[0] ?? 0n;
    return address === 0n ? {} : this.#link.library.takeParameters(address, count[0] ?? 0);
  }

  /** Begins a backup job, and in the same instant the checkpoint when its XML is given. */
  async backupBegin(xml: string, checkpointXml: string | null, signal?: AbortSignal): Promise<void> {
    await this.#link.number(`beginning a backup of ${this.label}`, signal, "virDomainBackupBegin", this.#handle, xml, checkpointXml, 0);
  }

  /** XML of the running backup job; rejects `no-backup` when there is none. */
  async backupXml(signal?: AbortSignal): Promise<string> {
    return await this.#link.text(`reading the backup job of ${this.label}`, signal, "virDomainBackupGetXMLDesc", this.#handle, 0);
  }

  /** Ends the domain's job. Rejects `invalid-state` when there is none. */
  async abortJob(signal?: AbortSignal): Promise<void> {
    await this.#link.number(`ending the job of ${this.label}`, signal, "virDomainAbortJob", this.#handle);
  }

  async jobStats(options: { readonly completed?: boolean; readonly signal?: AbortSignal } = {}): Promise<JobStats> {
    const type = new Int32Array(1);
    const array = new BigUint64Array(1);
    const count = new Int32Array(1);
    const flags = options.completed === true ? 1 : 0;
    const what = `asking for the job of ${this.label}`;
    await this.#link.number(what, options.signal, "virDomainGetJobStats", this.#handle, type, array, count, flags);
    const parameters = this.#parameters(array, count);
    return { type: type[0] ?? 0, isBackup: parameters["operation"] === BACKUP_OPERATION, parameters };
  }

  /** Every checkpoint's name, parents before children. */
  async checkpointNames(signal?: AbortSignal): Promise<readonly string[]> {
    const array = new BigUint64Array(1);
    const what = `listing the checkpoints of ${this.label}`;
    const count = await this.#link.number(what, signal, "virDomainListAllCheckpoints", this.#handle, array, 2); // topological
    const objects = (array[0] ?? 0n) === 0n ? [] : this.#link.library.takeObjects(array[0] ?? 0n, count);
    for (const object of objects) this.#link.keep(object, "virDomainCheckpointFree");
    const names = objects.map((object) => this.#link.library.checkpointName(object));
    for (const object of objects) await this.#link.release(object);
    return names;
  }

  /** Rejects `no-checkpoint` where none has that name. */
  async checkpoint(name: string): Promise<LibvirtCheckpoint> {
    const what = `finding checkpoint ${name} of ${this.label}`;
    const object = await this.#link.object(what, "virDomainCheckpointFree", "virDomainCheckpointLookupByName", this.#handle, name, 0);
    return new LibvirtCheckpoint(this.#link, object);
  }

  /**
   * Makes libvirt know a checkpoint again whose bitmaps are still in the images. `validate` (the domain must run) rejects
   * `checkpoint-inconsistent` when they are not.
   */
  async redefineCheckpoint(xml: string, options: { readonly validate: boolean }): Promise<LibvirtCheckpoint> {
    const flags = options.validate ? 5 : 1; // REDEFINE, REDEFINE_VALIDATE
    const what = `redefining a checkpoint of ${this.label}`;
    const object = await this.#link.object(what, "virDomainCheckpointFree", "virDomainCheckpointCreateXML", this.#handle, xml, flags);
    return new LibvirtCheckpoint(this.#link, object);
  }

  async close(): Promise<void> {
    const object = this.#object;
    this.#object = null;
    if (object !== null) await this.#link.release(object);
  }
}
