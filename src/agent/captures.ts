import { readFile, stat } from "node:fs/promises";
import type { DomainDescription, LibvirtDomain } from "../libvirt/index.ts";
import { errorText } from "../lib/errors.ts";
import type { Capture } from "./backup-source.ts";

const MAX_BOOT_FILE = 256 * 2 ** 20;
const AGENT_SECONDS = 10;
/** libvirt's default for how long the guest agent may take */
export const AGENT_WITHOUT_LIMIT: number = -2;

export interface CaptureResult {
  readonly captures: readonly Capture[];
  readonly warnings: readonly string[];
}

export interface CapturedDomain {
  readonly boot: DomainDescription["boot"];
  readonly liveXml: string;
  /** Of a pod: what its image brings is not kept, nor looked for here, for the machine's own description names it. */
  readonly confined: boolean | undefined;
}

/** The machine's description: its XML as it runs and as it is defined, and the files that it boots from beside its disks. */
export async function captureDomain(domain: LibvirtDomain, { boot, liveXml, confined }: CapturedDomain): Promise<CaptureResult> {
  const captures: Capture[] = [text("domain.xml", liveXml)];
  const warnings: string[] = [];
  // A transient domain has no definition beside the running one.
  if (await domain.isPersistent()) captures.push(text("domain-inactive.xml", await domain.xml({ inactive: true })));
  for (const [name, path] of Object.entries(boot)) {
    if (path === null || !path.startsWith("/") || (confined === true && name !== "nvram")) continue;
    try {
      captures.push({ name, bytes: await bootFile(path) });
    } catch (error) {
      warnings.push(`the machine's ${name} ${path} could not be kept with the point: ${errorText(error)}`);
    }
  }
  return { captures, warnings };
}

async function bootFile(path: string): Promise<Uint8Array> {
  const { size } = await stat(path);
  if (size > MAX_BOOT_FILE) throw new Error(`it has ${size} bytes, and ${MAX_BOOT_FILE} is the most that is kept`);
  return readFile(path);
}

/** What the guest agent tells of the guest; nothing where it does not answer. */
export async function captureGuestInfo(domain: LibvirtDomain, signal: AbortSignal): Promise<readonly Capture[]> {
  try {
    await domain.agentTimeout(AGENT_SECONDS);
    return [json("guest-info.json", await domain.guestInfo(signal))];
  } catch {
    signal.throwIfAborted();
    return [];
  } finally {
    await domain.agentTimeout(AGENT_WITHOUT_LIMIT).catch(() => undefined);
  }
}

export function text(name: string, content: string): Capture {
  return { name, bytes: Buffer.from(content, "utf8") };
}

export function json(name: string, content: unknown): Capture {
  return text(
    name,
    JSON.stringify(content, (_key, value: unknown) => (typeof value === "bigint" ? Number(value) : value)),
  );
}
