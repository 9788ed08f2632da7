import { type Static, type TArray, type TLiteral, type TNull, type TObject, type TString, type TUnion, Type } from "typebox";

import { oneOfBy, parseContract, record } from "./contract.ts";

/** A work order and each file beside it is at most this large: all of them come from one Secret. */
export const MAX_ORDER_BYTES: number = 1024 * 1024;

const MAX_DISKS = 256;
const name = Type.String({ minLength: 1, maxLength: 253 });
const path = Type.String({ minLength: 2, maxLength: 4096, pattern: "^/[^\\u0000]+$" });
const diskPattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$";
const diskName = Type.String({ pattern: diskPattern });
const diskNames = Type.Array(diskName, { maxItems: MAX_DISKS });
const pointId = Type.String({ pattern: "^[0-9a-f]{12}-[1-9][0-9]{0,9}$" });
export const DIGEST_PATTERN: string = "^sha256:[0-9a-f]{64}$";

function words<const W extends string[]>(...allowed: W): TUnion<{ [I in keyof W]: TLiteral<W[I]> }> {
  return Type.Union(allowed.map((word) => Type.Literal(word))) as unknown as TUnion<{ [I in keyof W]: TLiteral<W[I]> }>;
}

function orNull<T extends TString | TArray<TString> | TUnion>(schema: T): TUnion<[T, TNull]> {
  return Type.Union([schema, Type.Null()]);
}

/** Whose work it is. */
const run = record({
  uid: name,
  kind: Type.String({ minLength: 1, maxLength: 63, pattern: "^[A-Za-z]+$" }),
  /** empty for a resource of the cluster */
  namespace: Type.String({ maxLength: 63 }),
  name,
  attempt: Type.Integer({ minimum: 1, maximum: 1_000_000 }),
});

const libvirtSource = record({
  engine: Type.Literal("libvirt"),
  uri: Type.String({ minLength: 1, maxLength: 1024 }),
  domain: name,
  /** which run of the machine this is, wherever it migrates: the UID of KubeVirt's instance; null: libvirt alone can tell */
  instanceUid: orNull(name),
  /** where the job's NBD socket goes: QEMU must find it under the same path */
  runtimeDir: path,
  scratchDir: path,
  /** name in the point (the volume's) to libvirt's alias; a disk that is not named is called as its target, e.g. vda */
  diskNames: Type.Record(Type.String({ pattern: diskPattern }), name, { additionalProperties: false, maxProperties: MAX_DISKS }),
});

const imageSource = record({
  engine: Type.Literal("image"),
  images: Type.Array(record({ disk: diskName, path, format: orNull(words("qcow2", "raw")) }), { minItems: 1, maxItems: MAX_DISKS }),
});

const backup = record({
  type: Type.Literal("backup"),
  /** name of the part of the repository, with a key of its own, that it goes into; null: the one that every repository has */
  domain: orNull(Type.String({ pattern: "^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$" })),
  vm: record({ name: Type.String({ minLength: 1, maxLength: 512 }), uid: orNull(name) }),
  level: words("auto", "full", "incremental", "differential", "copy"),
  excludeDisks: diskNames,
  /** null: all */
  disks: orNull(diskNames),
  compression: words("lz4", "zstd", "none"),
  source: oneOfBy("engine", [libvirtSource, imageSource]),
  freeze: record({
    mode: words("Auto", "Required", "Never"),
    by: words("libvirt", "controller"),
    timeoutSeconds: Type.Integer({ minimum: 1, maximum: 600 }),
  }),
  /** files beside order.json that are kept with the point */
  captures: Type.Array(
    record({ name: Type.String({ pattern: "^[a-z0-9][a-z0-9.-]{0,62}$" }), digest: Type.String({ pattern: DIGEST_PATTERN }) }),
    { maxItems: 32 },
  ),
});

const restore = record({
  type: Type.Literal("restore"),
  point: pointId,
  disks: Type.Array(record({ disk: diskName, path, mode: words("Filesystem", "Block") }), { minItems: 1, maxItems: MAX_DISKS }),
});

/** `initialize`: an empty repository is made where there is none */
const catalog = record({ type: Type.Literal("catalog"), initialize: Type.Boolean() });
const forget = record({ type: Type.Literal("forget"), points: Type.Array(pointId, { minItems: 1, maxItems: 10_000 }) });
const inspect = record({ type: Type.Literal("inspect"), point: pointId });
/** that what restore points need stays locked for so long, counted from now, with so many requests for single objects at most */
const lock = record({
  type: Type.Literal("lock"),
  seconds: Type.Integer({ minimum: 7 * 86_400, maximum: 2 ** 32 }),
  requests: Type.Integer({ minimum: 1, maximum: 2 ** 31 }),
});
const prune = record({ type: Type.Literal("prune") });
/** that everything is there, by lists; and of the packs so many percent are read besides, or their checksums compared */
const check = record({
  type: Type.Literal("check"),
  level: words("list", "checksum"),
  samplePercent: Type.Number({ minimum: 0, maximum: 100 }),
});

/** The schema of `order.json`; docs/operator.md says what its fields are for. */
const schema = record({
  version: Type.Literal(1),
  run,
  repository: record({ url: Type.String({ minLength: 1, maxLength: 4096 }), keyFile: orNull(path) }),
  /** RFC 3339 */
  deadline: Type.String({ format: "date-time", maxLength: 40 }),
  /** 0: no limit */
  uploadBytesPerSecond: Type.Integer({ minimum: 0, maximum: 2 ** 50 }),
  channel: record({
    port: Type.Integer({ minimum: 1, maximum: 65_535 }),
    /** 32 bytes */
    key: Type.String({ pattern: "^[A-Za-z0-9+/]{43}=$" }),
  }),
  work: oneOfBy("type", [backup, catalog, check, forget, inspect, lock, prune, restore]),
});

export type WorkOrder = Static<typeof schema>;
export type Work = WorkOrder["work"];
export type WorkType = Work["type"];
export type BackupWork = Static<typeof backup>;
export type BackupWorkSource = BackupWork["source"];
export type CatalogWork = Static<typeof catalog>;
export type CheckWork = Static<typeof check>;
export type ForgetWork = Static<typeof forget>;
export type LockWork = Static<typeof lock>;
export type InspectWork = Static<typeof inspect>;
export type RestoreWork = Static<typeof restore>;
export type RunIdentity = Static<typeof run>;

export const workOrderSchema: TObject = schema;

/** Reads `order.json`. Throws `ContractError`. */
export function parseWorkOrder(bytes: Uint8Array | string): WorkOrder {
  return parseContract(schema, bytes, "The work order");
}
