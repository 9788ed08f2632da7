import { randomBytes } from "node:crypto";

import type { ObjectStore } from "../../../src/objectstore/index.ts";
import {
  type Credential,
  DomainCredential,
  Domains,
  parseDomainKeyFile,
  type PointRecord,
  Repository,
} from "../../../src/repository/index.ts";
import { KEY, newRepository, take } from "../harness.ts";
import { withRing } from "../keys/rings.ts";
import { readDisk } from "../light-reader.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { TimedStore } from "../prune/lab.ts";

const KiB = 1024;

/** A repository with several domains, in each of which there are machines of the same names. */
export class DomainLab {
  readonly store: TimedStore;
  /** what each point must restore to */
  readonly contents = new Map<string, Buffer>();
  readonly disks = new Map<string, MemoryDisk>();

  constructor(store: TimedStore = new TimedStore()) {
    this.store = store;
  }

  /** Two points of a machine in each of the domains, all machines with the same content at first. */
  static async start(...domains: readonly string[]): Promise<DomainLab> {
    const lab = new DomainLab();
    await newRepository(lab.store);
    const content = randomBytes(300 * KiB);
    for (const domain of domains) {
      await lab.backup(domain, content);
      await lab.backup(domain, randomBytes(64 * KiB));
    }
    return lab;
  }

  /** Writes to the domain's machine and takes a point of it. */
  async backup(domain: string, written: Buffer, vm = "web"): Promise<PointRecord> {
    const name = `${domain}/${vm}`;
    const disk = this.disks.get(name) ?? new MemoryDisk("vda", 512 * KiB);
    this.disks.set(name, disk);
    disk.write(64 * KiB, written);
    const repository = await Repository.open({ store: this.store, key: KEY, domain });
    const point = await take(repository, [disk], { vm, captures: { "domain.xml": Buffer.from(`<domain of="${name}"/>`) } });
    disk.checkpoint();
    this.contents.set(point.id, Buffer.from(disk.bytes));
    return point;
  }

  async domains(key: Credential = KEY, store: ObjectStore = this.store): Promise<Domains> {
    return await Domains.open({ store, key });
  }

  async destroy(name: string, store: ObjectStore = this.store): Promise<void> {
    await withRing({ store, key: KEY }, async (ring) => await ring.destroyDomain(name));
  }

  async tenantKey(name: string): Promise<DomainCredential> {
    const text = await withRing({ store: this.store, key: KEY }, async (ring) => await ring.exportDomain(name));
    const file = parseDomainKeyFile(text);
    if (file === null) throw new Error("this is no domain's key");
    return new DomainCredential(file);
  }

  async copy(): Promise<DomainLab> {
    const copied = new TimedStore();
    copied.hours = this.store.hours;
    for await (const { key } of this.store.list("")) await copied.put(key, await this.store.get(key));
    const lab = new DomainLab(copied);
    for (const [id, bytes] of this.contents) lab.contents.set(id, bytes);
    for (const [name, disk] of this.disks) {
      const twin = new MemoryDisk("vda", disk.size);
      twin.write(0, disk.bytes);
      lab.disks.set(name, twin);
    }
    return lab;
  }

  /** Names of the domains with how many points of each restore bit for bit; rejects where one that is listed does not. */
  async restorable(key: Credential = KEY): Promise<Record<string, number>> {
    const domains = await this.domains(key);
    const { points, unreadable } = await domains.list();
    if (unreadable.length > 0) throw new Error(`cannot be read: ${unreadable.map(({ id }) => id).join(", ")}`);
    const counts: Record<string, number> = Object.fromEntries(domains.opened.map(({ label }) => [label, 0]));
    for (const { point, domain } of points) {
      const found = await readDisk(await domains.holding(point.id), point);
      if (!found.equals(this.contents.get(point.id) ?? Buffer.alloc(0))) throw new Error(`${point.id} restores wrong`);
      counts[domain.label] = (counts[domain.label] ?? 0) + 1;
    }
    return counts;
  }

  /** All objects but those of one domain, of its machines and about it, with their bytes. */
  async objectsBut(domain: string, machines: readonly string[]): Promise<Map<string, string>> {
    const objects = new Map<string, string>();
    for await (const { key } of this.store.list("")) {
      if (key.includes(domain) || machines.some((vm) => key.includes(vm))) continue;
      objects.set(key, Buffer.from(await this.store.get(key)).toString("base64"));
    }
    return objects;
  }
}
