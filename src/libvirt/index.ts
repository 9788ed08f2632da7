/** libvirt by its own client library: domains, backup jobs, checkpoints, and their XML. */
export { backupBitmapContext, type BackupDisk, backupXml, checkpointXml, escapeXml, withoutParent } from "./build-xml.ts";
export type { LibvirtCheckpoint } from "./checkpoint.ts";
export { LibvirtConnection, versionText } from "./connection.ts";
export { bootFilesOf, copyDomainXml, type CopiedDomain, type DomainCopy, domainNameOf } from "./copy-domain-xml.ts";
export type { DomainState, JobStats, LibvirtDomain } from "./domain.ts";
export { LibvirtError, type LibvirtErrorCode } from "./errors.ts";
export { LibvirtXmlError } from "./xml-error.ts";
export {
  type BackupJob,
  type DomainDescription,
  type DomainDisk,
  parseBackup,
  parseCheckpointDisks,
  parseCheckpointSizes,
  parseDomain,
} from "./xml.ts";
