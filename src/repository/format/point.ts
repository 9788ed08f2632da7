import { CAPTURE_PIECE, TAG_LENGTH } from "./constants.ts";
import { damaged, FormatError } from "./errors.ts";
import { asArray, asCount, asHex, asNullableString, asObject, asOneOf, asString, parseObject, shown, type JsonObject } from "./json.ts";
import { type Reference, referenceFromJson, referenceToJson } from "./reference.ts";
import { rootLevel } from "./node.ts";

const REPOSITORY_ID_LENGTH = 16;
export const LEVELS = ["full", "incremental", "differential", "copy"] as const;
export const CONSISTENCIES = ["filesystem", "crash", "offline"] as const;
export type PointLevel = (typeof LEVELS)[number];
export type PointConsistency = (typeof CONSISTENCIES)[number];

/** A restore point, FORMAT.md §8. */
export interface PointRecord {
  readonly id: string;
  readonly seq: number;
  /** RFC 3339, by the store's clock */
  readonly time: string;
  readonly vm: { readonly name: string; readonly uuid: string | null };
  /** 24 hex digits */
  readonly run: string;
  readonly parent: string | null;
  readonly level: PointLevel;
  readonly consistency: PointConsistency;
  readonly tool: { readonly name: string; readonly version: string };
  readonly disks: readonly PointDisk[];
  readonly captures: readonly PointCapture[];
  readonly warnings: readonly string[];
  /** of a copy: where it was taken */
  readonly origin?: PointOrigin;
}

/** The repository a copied point was taken into, and its id there; the first of several it was copied through. */
export interface PointOrigin {
  /** 32 hex digits */
  readonly repository: string;
  readonly point: string;
}

export interface PointDisk {
  readonly name: string;
  /** bytes */
  readonly size: number;
  readonly level: PointLevel;
  readonly reason: string;
  readonly base: string | null;
  readonly checkpoint: string | null;
  /** null: the whole disk is zeros */
  readonly root: Reference | null;
  readonly imageInfo: unknown;
  readonly stats: DiskStats;
  /** Bytes from the start up to which sparse packs were last looked for (FORMAT.md §10): the next run goes on there. */
  readonly compactedTo: number;
}

/** All in bytes. */
export interface DiskStats {
  /** what the engine could not rule out as changed: data to be read, or zeros */
  readonly dirtyBytes: number;
  /** of that, what is zeros */
  readonly zeroBytes: number;
  readonly readBytes: number;
  /** granules that no image at hand had, before compression */
  readonly newBytes: number;
  /** granules that an image at hand had in a sparse pack and that were stored again, before compression; not among the new ones */
  readonly compactedBytes: number;
  /** what was put into the store for this disk, map included, as stored */
  readonly uploadedBytes: number;
  /** of that, the map */
  readonly mapBytes: number;
}

export interface PointCapture {
  readonly name: string;
  readonly size: number;
  readonly pieces: readonly CapturePiece[];
}

export interface CapturePiece extends Reference {
  readonly textLength: number;
}

export function encodePoint(point: PointRecord): Buffer {
  const disks = point.disks.map((disk) => ({ ...disk, root: disk.root && referenceToJson(disk.root), rootLevel: rootLevel(disk.size) }));
  const captures = point.captures.map((capture) => ({ ...capture, pieces: capture.pieces.map(referenceToJson) }));
  return Buffer.from(JSON.stringify({ version: 1, ...point, disks, captures }));
}

export function decodePoint(bytes: Uint8Array): PointRecord {
  const json = parseObject(bytes, "A restore point");
  if (json["version"] !== 1)
    throw new FormatError("newer-format", `The restore point has version ${shown(json["version"])}, this program knows 1`);
  const [vm, tool] = [asObject(json["vm"], "A point's vm"), asObject(json["tool"], "A point's tool")];
  return {
    id: asString(json["id"], "A point's id"),
    seq: asCount(json["seq"], "A point's seq"),
    time: asString(json["time"], "A point's time"),
    vm: { name: asString(vm["name"], "A VM's name"), uuid: asNullableString(vm["uuid"], "A VM's uuid") },
    run: asString(json["run"], "A point's run"),
    parent: asNullableString(json["parent"], "A point's parent"),
    level: asOneOf(json["level"], "A point's level", LEVELS),
    consistency: asOneOf(json["consistency"], "A point's consistency", CONSISTENCIES),
    tool: { name: asString(tool["name"], "A tool's name"), version: asString(tool["version"], "A tool's version") },
    disks: asArray(json["disks"], "A point's disks").map(decodeDisk),
    captures: asArray(json["captures"], "A point's captures").map(decodeCapture),
    warnings: asArray(json["warnings"], "A point's warnings").map((one) => asString(one, "A warning")),
    ...(json["origin"] === undefined ? {} : { origin: decodeOrigin(asObject(json["origin"], "A point's origin")) }),
  };
}

function decodeOrigin(json: JsonObject): PointOrigin {
  const repository = asHex(json["repository"], "A point's origin: repository", REPOSITORY_ID_LENGTH).toString("hex");
  return { repository, point: asString(json["point"], "A point's origin: point") };
}

function decodeDisk(value: unknown): PointDisk {
  const json = asObject(value, "A point's disk");
  const size = asCount(json["size"], "A disk's size");
  if (json["rootLevel"] !== rootLevel(size)) throw damaged("A disk's map has the wrong height for its size");
  return {
    name: asString(json["name"], "A disk's name"),
    size,
    level: asOneOf(json["level"], "A disk's level", LEVELS),
    reason: asString(json["reason"], "A disk's reason"),
    base: asNullableString(json["base"], "A disk's base"),
    checkpoint: asNullableString(json["checkpoint"], "A disk's checkpoint"),
    root: json["root"] === null ? null : referenceFromJson(json["root"], "A disk's root"),
    imageInfo: json["imageInfo"] ?? null,
    stats: decodeStats(asObject(json["stats"], "A disk's stats")),
    compactedTo: asLaterCount(json, "compactedTo"),
  };
}

/** A number that points did not have at first. */
function asLaterCount(json: JsonObject, name: string): number {
  return json[name] === undefined ? 0 : asCount(json[name], `A disk's ${name}`);
}

function decodeStats(json: JsonObject): DiskStats {
  const count = (name: string): number => asCount(json[name], `A disk's ${name}`);
  return {
    dirtyBytes: count("dirtyBytes"),
    zeroBytes: count("zeroBytes"),
    readBytes: count("readBytes"),
    newBytes: count("newBytes"),
    compactedBytes: asLaterCount(json, "compactedBytes"),
    uploadedBytes: count("uploadedBytes"),
    mapBytes: count("mapBytes"),
  };
}

/** So that reading it never takes more memory than a piece can have. */
function boundedPiece(reference: Reference): Reference {
  if (reference.length > CAPTURE_PIECE + TAG_LENGTH) throw damaged("A capture's piece is longer than one can be");
  return reference;
}

function decodeCapture(value: unknown): PointCapture {
  const json = asObject(value, "A capture");
  const size = asCount(json["size"], "A capture's size");
  const pieces = asArray(json["pieces"], "A capture's pieces").map((piece) => ({
    ...boundedPiece(referenceFromJson(piece, "A capture's piece")),
    textLength: asCount(asObject(piece, "A capture's piece")["textLength"], "A piece's length", CAPTURE_PIECE),
  }));
  if (pieces.reduce((sum, piece) => sum + piece.textLength, 0) !== size) throw damaged("A capture's pieces do not add up to its size");
  return { name: asString(json["name"], "A capture's name"), size, pieces };
}
