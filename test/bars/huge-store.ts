import { createHash } from "node:crypto";

import type { ObjectLocks, ObjectStat } from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { Codec, DocumentKind, HASH_LENGTH } from "../../src/repository/format/constants.ts";
import { sealDocument } from "../../src/repository/format/document.ts";
import { type DomainKeys, vmId } from "../../src/repository/format/keys.ts";
import { encodePoint } from "../../src/repository/format/point.ts";
import { Repository } from "../../src/repository/index.ts";
import { parsePointKey, pointAt, pointId } from "../../src/repository/layout.ts";
import { PackUsage } from "../../src/repository/usage/pack-usage.ts";

const MiB = 2 ** 20;
const DAY = 86_400_000;
const SIZE = 30 * MiB;
const TiB = 2 ** 40;

/** How much there is. Each machine begins with a full backup, and every point after it replaces some of what it has by as many packs of its own. */
export interface Huge {
  readonly machines: number;
  readonly pointsOfEach: number;
  readonly packsOfFull: number;
  readonly packsOfNext: number;
  /** packs of the full backup, its last, of which no point needs more than a fifth */
  readonly thinOfFull: number;
  /** runs of `packsOfNext` packs that nothing refers to */
  readonly orphans: number;
}

export function packsOf({ machines, pointsOfEach, packsOfFull, packsOfNext, orphans }: Huge): number {
  return machines * (packsOfFull + (pointsOfEach - 1) * packsOfNext) + orphans * packsOfNext;
}

/**
 * A store that holds a repository too large for any machine: what it is asked for it makes up, the same each time. Packs have names and sizes and
 * nothing in them; reading one fails. What is put into it stays.
 */
export class HugeStore extends MemoryObjectStore {
  readonly #huge: Huge;
  readonly #names: readonly string[];
  /** packs that were read: none ought to be */
  packReads = 0;
  /** lists begun */
  lists = 0;
  /** packs that were removed */
  removed = 0;
  locks?: ObjectLocks;
  readonly #machineOf = new Map<string, number>();
  /** by run */
  readonly #usages = new Map<string, { readonly machine: number; readonly seq: number }>();
  #repository: Repository | null = null;

  private constructor(huge: Huge) {
    super();
    this.#huge = huge;
    this.#names = Array.from({ length: huge.machines }, (_, machine) => `team/vm-${machine}`);
  }

  static async make(huge: Huge): Promise<{ readonly store: HugeStore; readonly repository: Repository }> {
    const store = new HugeStore(huge);
    const repository = await Repository.init({ store, key: Buffer.alloc(32, 3) });
    for (const name of store.#names) await repository.catalog.writeHead(vmId(repository.keys, name), huge.pointsOfEach);
    store.#fill(repository);
    return { store, repository };
  }

  override async get(
    key: string,
    ...rest: Parameters<MemoryObjectStore["get"]> extends [string, ...infer R] ? R : never
  ): Promise<Uint8Array> {
    const place = key.startsWith("points/") ? parsePointKey(key) : null;
    if (place !== null && this.#machineOf.has(place.vmId)) return this.#point(place);
    const run = /^usage\/[0-9a-f]{8}\/([0-9a-f]{24})/.exec(key)?.[1];
    if (run !== undefined && this.#usages.has(run)) return this.#usage(key, this.#usages.get(run)!);
    this.#refusePack(key);
    return await super.get(key, ...rest);
  }

  override async read(key: string, ...rest: Parameters<MemoryObjectStore["read"]> extends [string, ...infer R] ? R : never): Promise<void> {
    this.#refusePack(key);
    await super.read(key, ...rest);
  }

  override async delete(
    key: string,
    ...rest: Parameters<MemoryObjectStore["delete"]> extends [string, ...infer R] ? R : never
  ): Promise<void> {
    if (key.startsWith("packs/")) this.removed += 1;
    await super.delete(key, ...rest);
  }

  override async *list(prefix: string): AsyncGenerator<ObjectStat, void, undefined> {
    this.lists += 1;
    const domain = this.#repository?.domain;
    const modified = new Date(Date.now() - 10 * DAY);
    if (domain === undefined) yield* super.list(prefix);
    else if (prefix.startsWith("packs/")) {
      for (const { run, count } of this.#runsIn(prefix.slice(`packs/${domain}/`.length))) {
        for (let ordinal = 0; ordinal < count; ordinal++) {
          const pack = run + ordinal.toString(16).padStart(8, "0");
          yield { key: `packs/${domain}/${pack.slice(0, 2)}/${pack}`, size: SIZE, modified };
        }
      }
    } else if (prefix === "points/") {
      for (const vm of [...this.#machineOf.keys()].toSorted())
        for (let seq = 1; seq <= this.#huge.pointsOfEach; seq++) yield { key: pointAt(vm, seq), size: 900, modified };
    } else yield* super.list(prefix);
  }

  #fill(repository: Repository): void {
    this.#repository = repository;
    for (const [machine, name] of this.#names.entries()) {
      this.#machineOf.set(vmId(repository.keys, name), machine);
      for (let seq = 1; seq <= this.#huge.pointsOfEach; seq++) this.#usages.set(runOf(machine, seq), { machine, seq });
    }
  }

  get #keys(): DomainKeys {
    if (this.#repository === null) throw new Error("the store is not filled yet");
    return this.#repository.keys;
  }

  /** Runs whose packs' names begin with this, after `<domain>/`. */
  *#runsIn(part: string): Generator<{ readonly run: string; readonly count: number }, void, undefined> {
    const { packsOfFull, packsOfNext, orphans } = this.#huge;
    const all = [
      ...[...this.#usages].map(([run, { seq }]) => ({ run, count: seq === 1 ? packsOfFull : packsOfNext })),
      ...Array.from({ length: orphans }, (_, i) => ({ run: runOf(-1, i), count: packsOfNext })),
    ];
    yield* all.filter(({ run }) => run.startsWith(part.slice(0, 2))).toSorted((a, b) => (a.run < b.run ? -1 : 1));
  }

  #point({ vmId: vm, seq }: { readonly vmId: string; readonly seq: number }): Uint8Array {
    const machine = this.#machineOf.get(vm) ?? 0;
    const root = {
      pack: `${runOf(machine, seq)}00000000`,
      offset: 32,
      length: 2000,
      codec: Codec.none,
      hash: Buffer.alloc(HASH_LENGTH, 1),
    };
    const stats = { dirtyBytes: 0, zeroBytes: 0, readBytes: 0, newBytes: 0, compactedBytes: 0, uploadedBytes: 0, mapBytes: 0 };
    const text = encodePoint({
      id: pointId(vm, seq),
      seq,
      run: runOf(machine, seq),
      parent: null,
      level: "full",
      consistency: "offline",
      captures: [],
      warnings: [],
      time: new Date(Date.UTC(2026, 0, seq)).toISOString(),
      vm: { name: this.#names[machine] ?? "", uuid: null },
      tool: { name: "test", version: "0" },
      disks: [
        { name: "vda", size: TiB, root, level: "full", reason: "", base: null, checkpoint: null, imageInfo: null, stats, compactedTo: 0 },
      ],
    });
    return sealDocument(text, {
      kind: DocumentKind.point,
      key: this.#keys.document,
      at: pointAt(vm, seq),
      encrypted: this.#keys.encrypted,
    });
  }

  #usage(at: string, { machine, seq }: { readonly machine: number; readonly seq: number }): Uint8Array {
    const { packsOfFull, packsOfNext, thinOfFull } = this.#huge;
    const usage = new PackUsage();
    const add = (run: string, from: number, count: number, bytes: number = SIZE - 100_000): void => {
      for (let ordinal = from; ordinal < count; ordinal++) {
        usage.bytes.setAt(run, ordinal, bytes);
        usage.ends.setAt(run, ordinal, SIZE - 50_000);
      }
    };
    // What came later replaced as much of what was first.
    const dense = packsOfFull - thinOfFull;
    add(runOf(machine, 1), Math.min(dense, (seq - 1) * packsOfNext), dense);
    add(runOf(machine, 1), dense, packsOfFull, SIZE / 5);
    for (let later = 2; later <= seq; later++) add(runOf(machine, later), 0, packsOfNext);
    return sealDocument(usage.encode(), { kind: DocumentKind.usage, key: this.#keys.document, at, encrypted: this.#keys.encrypted });
  }

  #refusePack(key: string): void {
    if (!key.startsWith("packs/")) return;
    this.packReads += 1;
    throw new Error(`the pack ${key} is read`);
  }
}

/** 24 hex digits */
export function runOf(machine: number, seq: number): string {
  return createHash("sha256").update(`${machine} ${seq}`).digest("hex").slice(0, 24);
}
