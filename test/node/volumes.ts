import { chmodSync, chownSync, existsSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Api, ignore } from "./api.ts";
import type { NodeHost } from "./host.ts";
import type { DownwardFiles, KeyFiles, Pod, Projection, Volume } from "./pod.ts";
import { podField } from "./pod.ts";
import { NotYet, keysOf } from "./sources.ts";

/** Where a volume lies: a path with the node's mounts. */
export type Sources = Map<string, string>;

interface Claim {
  readonly spec: { readonly volumeName?: string; readonly volumeMode?: string };
  readonly status?: { readonly phase?: string };
}

interface PersistentVolume {
  readonly spec: { readonly local?: { readonly path: string }; readonly hostPath?: { readonly path: string } };
}

const TOKEN_MODE = 0o600;
const LOCAL = "kubernetes.io~local-volume";

/** Makes the volumes of one pod below its directory on the node, as the kubelet does, and takes them away. */
export class PodVolumes {
  readonly dir: string;
  readonly #api: Api;
  readonly #host: NodeHost;
  readonly #pod: Pod;
  readonly #podIP: string;
  readonly #mounted: Set<string> = new Set();

  constructor(api: Api, host: NodeHost, pod: Pod, { podIP }: { readonly podIP: string }) {
    this.#api = api;
    this.#host = host;
    this.#pod = pod;
    this.#podIP = podIP;
    this.dir = join(host.kubelet, "pods", pod.metadata.uid);
  }

  /** Every volume of the pod; what was made before stays as it is. @throws NotYet */
  async make(): Promise<Sources> {
    mkdirSync(this.dir, { recursive: true, mode: 0o750 });
    const sources: Sources = new Map();
    for (const volume of this.#pod.spec.volumes ?? []) sources.set(volume.name, await this.#one(volume));
    return sources;
  }

  async remove(): Promise<void> {
    if (this.#host.running) for (const path of this.#mounted) await this.#host.run("umount", "-l", path).catch(() => undefined);
    this.#mounted.clear();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async #one(volume: Volume): Promise<string> {
    const place = (plugin: string): string => this.#owned(join(this.dir, "volumes", `kubernetes.io~${plugin}`, volume.name));
    if (volume.emptyDir !== undefined) return place("empty-dir");
    if (volume.hostPath !== undefined) return this.#hostPath(volume.hostPath);
    if (volume.persistentVolumeClaim !== undefined) return await this.#claim(volume.name, volume.persistentVolumeClaim.claimName);
    const projected = projectionOf(volume);
    if (projected === undefined) throw new NotYet("ContainerCreating", `volume ${volume.name}: this simulator has no such kind of volume`);
    const files = new Map<string, { bytes: Buffer; mode: number }>();
    for (const source of projected.sources) await this.#project(source, files, projected.mode);
    const dir = place(projected.plugin);
    for (const [path, { bytes, mode }] of files) {
      const file = join(dir, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, bytes);
      chmodSync(file, this.#fsGroup === undefined ? mode : mode | 0o440);
      if (this.#fsGroup !== undefined) chownSync(file, 0, this.#fsGroup);
      // Its owner alone may read a token.
      else if (mode === TOKEN_MODE) chownSync(file, this.#user, 0);
    }
    return dir;
  }

  get #user(): number {
    return this.#pod.spec.containers[0]?.securityContext?.runAsUser ?? this.#pod.spec.securityContext?.runAsUser ?? 0;
  }

  get #fsGroup(): number | undefined {
    return this.#pod.spec.securityContext?.fsGroup;
  }

  /** A directory for everyone, or for the pod's group. */
  #owned(dir: string): string {
    if (existsSync(dir)) return dir;
    mkdirSync(dir, { recursive: true });
    if (this.#fsGroup !== undefined) chownSync(dir, 0, this.#fsGroup);
    chmodSync(dir, this.#fsGroup === undefined ? 0o777 : 0o2777);
    return dir;
  }

  #hostPath({ path, type = "" }: { readonly path: string; readonly type?: string }): string {
    const real = this.#host.translate(path);
    const seen = this.#host.see(real);
    const present = existsSync(seen);
    if (!present && type === "DirectoryOrCreate") mkdirSync(seen, { recursive: true, mode: 0o755 });
    if (!present && type === "FileOrCreate") writeFileSync(seen, "", { mode: 0o644 });
    // A container runtime makes a directory for a path that is missing and whose type nobody asked for.
    if (!present && type === "") mkdirSync(seen, { recursive: true, mode: 0o755 });
    if (type !== "" && !isType(seen, type)) throw new NotYet("ContainerCreating", `hostPath type check failed: ${path} is not a ${type}`);
    return real;
  }

  async #claim(name: string, claimName: string): Promise<string> {
    const { namespace = "" } = this.#pod.metadata;
    const claim = await this.#api.get<Claim>(`/api/v1/namespaces/${namespace}/persistentvolumeclaims/${claimName}`).catch(ignore(404));
    const pv = claim?.spec.volumeName;
    if (claim?.status?.phase !== "Bound" || pv === undefined)
      throw new NotYet("ContainerCreating", `volume ${name}: claim ${claimName} is not bound`);
    const { spec } = await this.#api.get<PersistentVolume>(`/api/v1/persistentvolumes/${pv}`);
    // A hostPath volume the kubelet gives to the container as it is: there is nothing of it below the pod's directory.
    if (spec.local === undefined) return this.#host.translate(spec.hostPath?.path ?? "");
    if (claim.spec.volumeMode === "Block") return this.#link(join(this.dir, "volumeDevices", LOCAL, pv), spec.local.path);
    return await this.#bind(join(this.dir, "volumes", LOCAL, pv), spec.local.path);
  }

  #link(path: string, device: string): string {
    mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
    if (!existsSync(path)) symlinkSync(device, path);
    return path;
  }

  async #bind(path: string, source: string): Promise<string> {
    if (this.#mounted.has(path)) return path;
    mkdirSync(path, { recursive: true });
    if (this.#fsGroup !== undefined) {
      chownSync(source, statSync(source).uid, this.#fsGroup);
      chmodSync(source, statSync(source).mode | 0o2070);
    }
    await this.#host.run("mount", "--bind", source, path);
    this.#mounted.add(path);
    return path;
  }

  async #project(source: Projection, files: Map<string, { bytes: Buffer; mode: number }>, mode: number): Promise<void> {
    for (const [kind, keys] of [
      ["secrets", source.secret],
      ["configmaps", source.configMap],
    ] as const)
      // prettier-ignore
      if (keys !== undefined) for (const [path, bytes] of await this.#keyFiles(kind, keys)) files.set(path, { bytes, mode });
    for (const [path, bytes] of this.#downward(source.downwardAPI)) files.set(path, { bytes, mode });
    if (source.serviceAccountToken === undefined) return;
    files.set(source.serviceAccountToken.path, { bytes: Buffer.from(await this.#token(source.serviceAccountToken)), mode: TOKEN_MODE });
  }

  async #keyFiles(kind: "secrets" | "configmaps", keys: KeyFiles): Promise<Map<string, Buffer>> {
    const name = keys.secretName ?? keys.name ?? "";
    const optional = keys.optional ?? false;
    const all = await keysOf(this.#api, kind, { namespace: this.#pod.metadata.namespace ?? "", name, optional }).catch((cause: unknown) => {
      // A volume that cannot be made keeps the container from being created, not from being configured.
      throw cause instanceof NotYet ? new NotYet("ContainerCreating", `MountVolume.SetUp failed: ${cause.message}`) : cause;
    });
    if (all === undefined || keys.items === undefined) return all ?? new Map();
    return new Map(
      keys.items.map(({ key, path }) => {
        const bytes = all.get(key);
        if (bytes === undefined) throw new NotYet("ContainerCreating", `MountVolume.SetUp failed: references non-existent key: ${key}`);
        return [path, bytes];
      }),
    );
  }

  #downward(files: DownwardFiles = {}): [string, Buffer][] {
    return (files.items ?? []).map(({ path, fieldRef }) => [
      path,
      Buffer.from(podField(this.#pod, fieldRef?.fieldPath ?? "", { podIP: this.#podIP }) ?? ""),
    ]);
  }

  async #token({ audience, expirationSeconds = 3600 }: NonNullable<Projection["serviceAccountToken"]>): Promise<string> {
    const { metadata, spec } = this.#pod;
    const bound = { kind: "Pod", apiVersion: "v1", name: metadata.name, uid: metadata.uid };
    const asked = { expirationSeconds, boundObjectRef: bound, ...(audience === undefined ? {} : { audiences: [audience] }) };
    const path = `/api/v1/namespaces/${metadata.namespace}/serviceaccounts/${spec.serviceAccountName ?? "default"}/token`;
    const { status } = await this.#api.create<{ status: { token: string } }>(path, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: asked,
    });
    return status.token;
  }
}

function projectionOf(volume: Volume): { plugin: string; sources: readonly Projection[]; mode: number } | undefined {
  const { secret, configMap, downwardAPI, projected } = volume;
  if (secret !== undefined) return { plugin: "secret", sources: [{ secret }], mode: secret.defaultMode ?? 0o644 };
  if (configMap !== undefined) return { plugin: "configmap", sources: [{ configMap }], mode: configMap.defaultMode ?? 0o644 };
  if (downwardAPI !== undefined) return { plugin: "downward-api", sources: [{ downwardAPI }], mode: downwardAPI.defaultMode ?? 0o644 };
  if (projected !== undefined) return { plugin: "projected", sources: projected.sources ?? [], mode: projected.defaultMode ?? 0o644 };
  return undefined;
}

function isType(path: string, type: string): boolean {
  if (!existsSync(path)) return false;
  const stat = statSync(path);
  switch (type) {
    case "Directory":
    case "DirectoryOrCreate":
      return stat.isDirectory();
    case "File":
    case "FileOrCreate":
      return stat.isFile();
    case "Socket":
      return stat.isSocket();
    case "BlockDevice":
      return stat.isBlockDevice();
    case "CharDevice":
      return stat.isCharacterDevice();
    default:
      return false;
  }
}
