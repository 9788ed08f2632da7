/** One disk of a backup job. */
export interface BackupDisk {
  readonly name: string;
  /** File the job keeps the old content of overwritten blocks in. */
  readonly scratch: string;
  /** Checkpoint whose bitmap the export shows; null for none. */
  readonly since: string | null;
}

/** XML of a pull backup job of exactly these disks, served on a unix socket; each export is named as its disk. */
export function backupXml(socket: string, disks: readonly BackupDisk[]): string {
  const items = disks.map(({ name, scratch, since }) => {
    const mode = since === null ? ` backupmode='full'` : ` backupmode='incremental' incremental='${escapeXml(since)}'`;
    return `<disk name='${escapeXml(name)}' backup='yes' type='file'${mode} exportname='${escapeXml(name)}'><scratch file='${escapeXml(scratch)}'/></disk>`;
  });
  const server = `<server transport='unix' socket='${escapeXml(socket)}'/>`;
  return `<domainbackup mode='pull'>${server}<disks>${items.join("")}</disks></domainbackup>`;
}

/** The meta context under which the export of a disk of an incremental job shows its bitmap. */
export function backupBitmapContext(disk: string): string {
  return `qemu:dirty-bitmap:backup-${disk}`;
}

/** XML of a checkpoint of exactly these disks. */
export function checkpointXml(name: string, disks: readonly string[]): string {
  const items = disks.map((disk) => `<disk name='${escapeXml(disk)}' checkpoint='bitmap'/>`);
  return `<domaincheckpoint><name>${escapeXml(name)}</name><disks>${items.join("")}</disks></domaincheckpoint>`;
}

/** A stored checkpoint's XML without its parent, which may be gone since. */
export function withoutParent(xml: string): string {
  return xml.replace(/<parent>\s*<name>[^<]*<\/name>\s*<\/parent>\s*/, "");
}

/** Text as XML character data or attribute value. Control characters, which XML has no way to write, are left out. */
export function escapeXml(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "")
    .replace(/[<>&'"\n\r\t]/g, (c) => `&#${c.charCodeAt(0)};`);
}
