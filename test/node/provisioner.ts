import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Api, KubeObject } from "./api.ts";
import { ignore } from "./api.ts";
import { Informer } from "./informer.ts";
import { LoopDevice } from "./loop-device.ts";

interface Claim extends KubeObject {
  readonly spec: {
    readonly storageClassName?: string;
    readonly volumeMode?: "Filesystem" | "Block";
    readonly volumeName?: string;
    readonly accessModes?: readonly string[];
    readonly resources?: { readonly requests?: { readonly storage?: string } };
  };
}

interface PersistentVolume extends KubeObject {
  readonly spec: { readonly storageClassName?: string };
  readonly status?: { readonly phase?: string };
}

const NAME = "lab.thinstream.dev/local";
const SELECTED = "volume.kubernetes.io/selected-node";
const CLASSES = { standard: "WaitForFirstConsumer", immediate: "Immediate" } as const;

/** Makes a local PersistentVolume for every claim of its storage classes: a directory, or a loop device of the claim's size. */
export class Provisioner {
  readonly #api: Api;
  readonly #dir: string;
  readonly #nodes: () => readonly string[];
  readonly #devices: Map<string, LoopDevice> = new Map();
  readonly #busy: Set<string> = new Set();
  #claims: Informer<Claim> | undefined;
  #made: Informer<PersistentVolume> | undefined;

  constructor(api: Api, dir: string, nodes: () => readonly string[]) {
    this.#api = api;
    this.#dir = dir;
    this.#nodes = nodes;
  }

  /** Makes the classes `standard` (the default one, binds when a pod needs it) and `immediate`. @throws ApiError */
  async start(): Promise<void> {
    mkdirSync(this.#dir, { recursive: true });
    for (const [name, volumeBindingMode] of Object.entries(CLASSES)) {
      const annotations = { "storageclass.kubernetes.io/is-default-class": String(name === "standard") };
      const body = { metadata: { name, annotations }, provisioner: NAME, reclaimPolicy: "Delete", volumeBindingMode };
      await this.#api.create("/apis/storage.k8s.io/v1/storageclasses", body).catch(ignore(409));
    }
    this.#claims = new Informer<Claim>(this.#api, "/api/v1/persistentvolumeclaims", (claim, gone) => {
      if (!gone) void this.#once(claim, () => this.#provision(claim));
    });
    this.#made = new Informer<PersistentVolume>(this.#api, "/api/v1/persistentvolumes", (volume, gone) => {
      if (!gone && volume.status?.phase === "Released") void this.#once(volume, () => this.#delete(volume));
    });
  }

  async stop(): Promise<void> {
    await Promise.all([this.#claims?.stop(), this.#made?.stop()]);
    await Promise.all([...this.#devices.values()].map((device) => device.release()));
  }

  /** Where the data of a volume lies on this machine: a directory or a file. */
  pathOf(volumeName: string): string {
    return join(this.#dir, volumeName);
  }

  /** The block device of a volume of that mode. */
  deviceOf(volumeName: string): string | undefined {
    return this.#devices.get(volumeName)?.path;
  }

  async #once(object: KubeObject, work: () => Promise<void>): Promise<void> {
    const { uid } = object.metadata;
    if (this.#busy.has(uid)) return;
    this.#busy.add(uid);
    try {
      await work();
    } catch (cause) {
      process.emitWarning(`storage of ${object.metadata.name}: ${String(cause)}`);
    } finally {
      this.#busy.delete(uid);
    }
  }

  async #provision({ metadata, spec }: Claim): Promise<void> {
    const { storageClassName = "", volumeMode = "Filesystem" } = spec;
    const wanted = storageClassName === "immediate" || (storageClassName === "standard" && metadata.annotations?.[SELECTED] !== undefined);
    if (!wanted || (spec.volumeName ?? "") !== "" || metadata.deletionTimestamp !== undefined) return;
    const name = `pvc-${metadata.uid}`;
    const storage = spec.resources?.requests?.storage ?? "1Gi";
    const path = volumeMode === "Block" ? await this.#device(name, bytesOf(storage)) : this.#directory(name);
    const claimRef = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      namespace: metadata.namespace,
      name: metadata.name,
      uid: metadata.uid,
    };
    const reached = { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: this.#nodes() }] };
    const volume = {
      metadata: { name, annotations: { "pv.kubernetes.io/provisioned-by": NAME } },
      spec: {
        capacity: { storage },
        accessModes: spec.accessModes,
        volumeMode,
        storageClassName,
        persistentVolumeReclaimPolicy: "Delete",
        local: { path },
        claimRef,
        // Every node of the simulator is this machine, so each of them reaches it, as it would a shared storage.
        nodeAffinity: { required: { nodeSelectorTerms: [reached] } },
      },
    };
    await this.#api.create("/api/v1/persistentvolumes", volume).catch(ignore(409));
  }

  #directory(name: string): string {
    mkdirSync(this.pathOf(name), { recursive: true });
    return this.pathOf(name);
  }

  async #device(name: string, size: number): Promise<string> {
    const known = this.#devices.get(name);
    if (known !== undefined) return known.path;
    writeFileSync(this.pathOf(name), "");
    truncateSync(this.pathOf(name), size);
    const device = await LoopDevice.attach(this.pathOf(name));
    this.#devices.set(name, device);
    return device.path;
  }

  async #delete({ metadata }: PersistentVolume): Promise<void> {
    if (!metadata.name.startsWith("pvc-")) return;
    await this.#devices.get(metadata.name)?.release();
    this.#devices.delete(metadata.name);
    rmSync(this.pathOf(metadata.name), { recursive: true, force: true });
    await this.#api.remove(`/api/v1/persistentvolumes/${metadata.name}`);
  }
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** A quantity of Kubernetes as bytes: `1Gi`. */
export function bytesOf(quantity: string): number {
  const [, number = "", unit = ""] = /^([\d.]+)(\D*)$/.exec(quantity) ?? [];
  const scale = UNITS[unit];
  if (number === "" || scale === undefined) throw new TypeError(`${quantity} is no size`);
  return Math.ceil(Number(number) * scale);
}
