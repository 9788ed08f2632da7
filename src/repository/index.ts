/** The repository: the only way disk data goes into an object store and comes out of it. Format: `format/FORMAT.md`. */
export { checkRepository, type CheckOptions, type CheckReport, type Finding } from "./check/check-repository.ts";
export type { Catalog, CatalogListing, Lineage, UnreadablePoint } from "./catalog.ts";
export type { ByteRange, DiskContent, Extent, ReadRequest } from "./disk-content.ts";
export { RepositoryError, type RepositoryErrorCode } from "./errors.ts";
export { Codec } from "./format/constants.ts";
export { FormatError, type FormatErrorCode } from "./format/errors.ts";
export { formatKeyFile, parseKeyFile } from "./format/key-file.ts";
export { vmId } from "./format/keys.ts";
export type { DiskStats, PointCapture, PointConsistency, PointDisk, PointLevel, PointRecord } from "./format/point.ts";
export { type ImageRoot, isLoss } from "./map/image-map.ts";
export { offerHints, similarImages } from "./hints.ts";
export { readCapture, readCapturePiece } from "./read/captures.ts";
export { pointDamaged, readPoint } from "./read/point.ts";
export { type DamagedRange, ImageReader, type ReadOptions } from "./read/image-reader.ts";
export type { ImageTarget } from "./read/image-target.ts";
export { Repository, type RepositoryAccess } from "./repository.ts";
export type { DiskProgress } from "./write/disk-writer.ts";
export { BackupSession, type DiskFacts, imageOf, type PointFacts, type SessionOptions } from "./write/session.ts";
