import fc from "fast-check";
import type { Work, WorkOrder } from "../../src/api/index.ts";
import { SealingKey } from "../../src/lib/sealed-message.ts";

export const backupWork: Extract<Work, { type: "backup" }> = {
  type: "backup",
  domain: "team-a",
  vm: { name: "team-a/web", uid: "5f0c2f52-3c53-4f3c-8f5e-2f3d0e1d8a10" },
  level: "auto",
  excludeDisks: ["scratch"],
  disks: null,
  compression: "lz4",
  source: {
    engine: "libvirt",
    uri: "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock",
    domain: "team-a_web",
    instanceUid: "11111111-2222-4333-8444-555555555555",
    runtimeDir: "/var/run/libvirt",
    scratchDir: "/var/run/kubevirt-ephemeral-disks",
    diskNames: { root: "ua-root", data: "ua-data" },
  },
  freeze: { mode: "Auto", by: "controller", timeoutSeconds: 60 },
  captures: [{ name: "kubernetes.json", digest: `sha256:${"0".repeat(64)}` }],
};

/** One order of every kind of work, and of both engines. */
export const works: readonly Work[] = [
  backupWork,
  { ...backupWork, source: { engine: "image", images: [{ disk: "root", path: "/run/thinstream/volumes/root/disk.img", format: "raw" }] } },
  { type: "catalog", initialize: false },
  { type: "check", level: "list", samplePercent: 2.5 },
  { type: "forget", points: ["0123456789ab-1", "0123456789ab-20"] },
  { type: "lock", seconds: 30 * 86_400, requests: 100_000 },
  { type: "prune" },
  { type: "inspect", point: "0123456789ab-1" },
  { type: "restore", point: "0123456789ab-1", disks: [{ disk: "root", path: "/dev/root", mode: "Block" }] },
];

export function orderOf(work: Work, changes: Partial<WorkOrder> = {}): WorkOrder {
  return {
    version: 1,
    run: { uid: "5d0d1b4e-1d0e-4a52-9d0a-6a3ad0f4b0a1", kind: "VirtualMachineBackup", namespace: "team-a", name: "web-1", attempt: 1 },
    repository: { url: "s3://backups/prod?endpoint=http://127.0.0.1:9000", keyFile: "/run/thinstream/key/key" },
    deadline: "2099-01-01T00:00:00Z",
    uploadBytesPerSecond: 0,
    channel: { port: 9443, key: SealingKey.random().toBase64() },
    work,
    ...changes,
  };
}

/** A place in a JSON value: the keys that lead there. */
export type Place = readonly (string | number)[];

/** Every place in a value, without the value itself. */
export function placesOf(value: unknown, at: Place = []): Place[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, member]): Place[] => {
    const place = [...at, Array.isArray(value) ? Number(key) : key];
    return [place, ...placesOf(member, place)];
  });
}

/** A copy of a value with what `change` makes of the member at a place; `undefined` removes it. */
export function changedAt(value: unknown, place: Place, change: (member: unknown) => unknown): unknown {
  const copy = structuredClone(value) as Record<string | number, unknown>;
  let holder = copy;
  for (const key of place.slice(0, -1)) holder = holder[key] as Record<string | number, unknown>;
  const last = place.at(-1) ?? "";
  const changed = change(holder[last]);
  if (changed === undefined) delete holder[last];
  else holder[last] = changed;
  return copy;
}

export const anyWork: fc.Arbitrary<Work> = fc.constantFrom(...works);
