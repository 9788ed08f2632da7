import { randomBytes, randomUUID } from "node:crypto";
import { access, chmod, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";

import { bootFilesOf, copyDomainXml, domainNameOf, LibvirtConnection, LibvirtError } from "../libvirt/index.ts";
import { type PointRecord, readCapture, type Repository } from "../repository/index.ts";
import { RestoreError } from "./errors.ts";
import type { RestoredDisk } from "./run-restore.ts";

export interface DefineTarget {
  readonly repository: Repository;
  readonly point: PointRecord;
  readonly uri: string;
  /** null: the original's with `-restored` */
  readonly name: string | null;
  readonly signal: AbortSignal;
}

export interface DefineRequest extends DefineTarget {
  readonly disks: readonly RestoredDisk[];
  /** where NVRAM, kernel and the like of the copy go */
  readonly directory: string;
}

export interface DefinedDomain {
  readonly name: string;
  readonly uuid: string;
  readonly warnings: readonly string[];
}

/** Makes sure before a long restore that the copy can be defined after it: the point knows its domain, libvirt answers, the name is free. */
export async function requireDefinable(target: DefineTarget): Promise<void> {
  const name = target.name ?? copyName(await domainXml(target));
  await withConnection(target, async (connection) => {
    try {
      await connection.lookupByName(name);
    } catch (thrown) {
      if (thrown instanceof LibvirtError && thrown.code === "no-domain") return;
      throw thrown;
    }
    throw new RestoreError("target-exists", `There is a domain ${name} already`, { hint: "Choose another with --name" });
  });
}

/** Defines the restored machine as a copy of the original: new UUID and MAC addresses, paths as restored. Does not start it. */
export async function defineRestored(request: DefineRequest): Promise<DefinedDomain> {
  const original = await domainXml(request);
  const [name, uuid] = [request.name ?? copyName(original), randomUUID()];
  const copied = copyDomainXml(original, {
    name,
    uuid,
    nextMac,
    disks: new Map(request.disks.map((disk) => [disk.name, { path: resolve(disk.path), format: disk.format }])),
    bootFiles: await restoreBootFiles(request, original),
  });
  await withConnection(request, async (connection) => await (await connection.define(copied.xml)).close());
  return { name, uuid, warnings: copied.warnings };
}

/** Writes NVRAM, kernel and initrd of the point into the directory; firmware that the host has at its old place is used from there. */
async function restoreBootFiles(request: DefineRequest, original: string): Promise<Map<string, string>> {
  const places = new Map<string, string>();
  for (const [tag, path] of bootFilesOf(original)) {
    const capture = request.point.captures.find(({ name }) => name === tag);
    if (capture === undefined || (tag === "loader" && (await exists(path)))) continue;
    const place = resolve(join(request.directory, `${tag}-${basename(path)}`));
    await writeFile(place, await readCapture(request.repository, capture, request.signal), { mode: 0o600 });
    if (tag !== "nvram") await chmod(place, 0o644);
    places.set(tag, place);
  }
  return places;
}

async function domainXml({ repository, point, signal }: DefineTarget): Promise<string> {
  const find = (name: string): PointRecord["captures"][number] | undefined => point.captures.find((capture) => capture.name === name);
  const capture = find("domain-inactive.xml") ?? find("domain.xml");
  if (capture === undefined) {
    throw new RestoreError("invalid", `The restore point ${point.id} does not know the domain of ${point.vm.name}`, {
      hint: "It was taken of a bare image; define a domain by hand",
    });
  }
  return (await readCapture(repository, capture, signal)).toString("utf8");
}

async function withConnection<T>({ uri, signal }: DefineTarget, work: (connection: LibvirtConnection) => Promise<T>): Promise<T> {
  const connection = await LibvirtConnection.connect(uri, { signal });
  try {
    return await work(connection);
  } finally {
    await connection.close();
  }
}

function copyName(xml: string): string {
  return `${domainNameOf(xml)}-restored`;
}

/** In the range that QEMU and libvirt use for their guests. */
function nextMac(): string {
  return ["52", "54", "00", ...[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, "0"))].join(":");
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
