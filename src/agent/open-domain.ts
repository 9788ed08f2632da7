import { dirname } from "node:path";

import { parseDomain } from "../libvirt/index.ts";
import type { BackupSource, Capture } from "./backup-source.ts";
import { captureDomain } from "./captures.ts";
import { SourceError } from "./errors.ts";
import { openImage } from "./image/open.ts";
import type { ImageSpec, ImageStep } from "./image/options.ts";
import { DomainSession } from "./libvirt-pull/domain-session.ts";
import { openLibvirtPull } from "./libvirt-pull/open.ts";
import type { LibvirtPullOptions, PullStep } from "./libvirt-pull/options.ts";
import { nameOf, selectDisks } from "./libvirt-pull/plan.ts";

/** What the backup of a domain is asked for, whether it runs or not; the steps are those of the engine that takes it. */
export interface DomainOptions extends Omit<LibvirtPullOptions, "onStep"> {
  readonly onStep?: (step: PullStep | ImageStep) => void | Promise<void>;
  /** The images are of somebody who is not trusted with this host, besides: of a machine that is off nothing outside of their directories is read. */
  readonly confined?: boolean;
}

/** Takes a domain's disks: by libvirt's backup job while it runs, from its images while it does not. */
export async function openDomain(options: DomainOptions): Promise<BackupSource> {
  try {
    return await openLibvirtPull(options);
  } catch (error) {
    if (!(error instanceof SourceError) || error.code !== "not-running") throw error;
    return openStoppedDomain(options);
  }
}

interface Stopped {
  readonly uuid: string;
  readonly images: readonly ImageSpec[];
  readonly captures: readonly Capture[];
  readonly warnings: readonly string[];
}

/** Takes the images of a domain that does not run; a checkpoint cannot be made then, and the last one's bitmaps are used. */
async function openStoppedDomain(options: DomainOptions): Promise<BackupSource> {
  const { domain, level, bases, signal, log } = options;
  const { uuid, images, captures, warnings } = await describe(options);
  const more = {
    ...(options.runtimeDir === undefined ? {} : { runtimeDir: options.runtimeDir }),
    ...(options.connections === undefined ? {} : { connections: options.connections }),
    ...(options.onStep === undefined ? {} : { onStep: options.onStep }),
  };
  const within = options.confined === true ? { within: images.map(({ path }) => dirname(path)) } : {};
  return openImage({ ...within, images, key: uuid, name: domain, level, bases, captures, warnings, signal, log, ...more });
}

async function describe(options: DomainOptions): Promise<Stopped> {
  const session = await DomainSession.open(options);
  try {
    const xml = await session.domain.xml({ inactive: true, signal: options.signal });
    const description = parseDomain(xml);
    const { disks, warnings } = selectDisks(description, options);
    const images: ImageSpec[] = [];
    for (const disk of disks) {
      const { target, format, path, volume } = disk;
      const found = path ?? (volume === null ? null : await session.connection.volumePath(volume.pool, volume.volume));
      if (found === null) throw new SourceError("image-unusable", `disk ${target} of domain "${options.domain}" has no image`);
      images.push({ name: nameOf(disk, options.diskNames), path: found, format });
    }
    const kept = await captureDomain(session.domain, { ...description, liveXml: xml, confined: options.confined });
    return { uuid: description.uuid, images, captures: kept.captures, warnings: [...warnings, ...kept.warnings] };
  } finally {
    await session.close();
  }
}
