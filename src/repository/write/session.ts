import { randomBytes } from "node:crypto";

import { Catalog } from "../catalog.ts";
import { type KnownDamage, readDamage } from "../damage.ts";
import type { DiskContent } from "../disk-content.ts";
import { RepositoryError } from "../errors.ts";
import { CAPTURE_PIECE, Codec, FrameKind, GRANULE, RUN_ID_LENGTH } from "../format/constants.ts";
import { FrameSealer } from "../format/frame.ts";
import { encodeNode, type MapNode } from "../format/node.ts";
import type {
  CapturePiece,
  DiskStats,
  PointCapture,
  PointConsistency,
  PointDisk,
  PointLevel,
  PointOrigin,
  PointRecord,
} from "../format/point.ts";
import { type Reference, referenceToJson } from "../format/reference.ts";
import type { SimilarImage } from "../hints.ts";
import type { Lineage } from "../catalog.ts";
import { pointId } from "../layout.ts";
import { ImageMap, type ImageRoot } from "../map/image-map.ts";
import { NodeReader } from "../map/node-reader.ts";
import { TreeBuilder } from "../map/tree-builder.ts";
import type { Repository } from "../repository.ts";
import { mayCommit, wasInTime } from "../rules.ts";
import { writeSums } from "../sums.ts";
import { contradictsBase } from "./base-doubt.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { type DiskProgress, trustedUpTo, writeDisk } from "./disk-writer.ts";
import { PackStream } from "./pack-stream.ts";
import { RecentGranules } from "./recent-granules.ts";
import { SessionMemory } from "./session-memory.ts";
import { Shipper } from "./shipper.ts";
import { KnownSparse } from "./sparse-packs.ts";

export interface SessionOptions {
  readonly vm: { readonly name: string; readonly uuid: string | null };
  readonly codec: Codec;
  readonly signal: AbortSignal;
  /** the VM's newest points, as `catalog.lineage` gave them before the source was opened */
  readonly lineage: Lineage;
  /** not closed with the session; default: memory of its own */
  readonly memory?: SessionMemory;
}

/** What a disk of the new point is, beside its content. */
export interface DiskFacts {
  readonly level: PointLevel;
  readonly reason: string;
  /** point whose content clean extents have */
  readonly base: PointRecord | null;
  readonly checkpoint: string | null;
  readonly imageInfo: unknown;
  /** images to compare with besides the base, best first */
  readonly similar: readonly SimilarImage[];
  readonly onProgress?: (progress: DiskProgress) => void;
}

export interface PointFacts {
  readonly level: PointLevel;
  readonly consistency: PointConsistency;
  readonly warnings: readonly string[];
  readonly tool: { readonly name: string; readonly version: string };
  /** of a copy: when and where it was taken; default: now and here */
  readonly copied?: { readonly time: string; readonly origin: PointOrigin };
}

/** How a disk is written. */
interface Approach {
  readonly facts: DiskFacts;
  /** images whose granules the new ones are compared with */
  readonly compared: readonly SimilarImage[];
  /** image whose map the new one begins with */
  readonly start: ImageRoot | null;
  readonly isLost: ((reference: Reference) => boolean) | null;
}

const DAMAGED = {
  level: "full",
  reason: "some of what the last point has of it is damaged in the repository, and is stored again",
  base: null,
} satisfies Partial<DiskFacts>;

const CONTRADICTED = {
  level: "full",
  reason: "what counts as unchanged differs from the last point: the disk shrank and grew, or was changed behind QEMU's back",
  base: null,
} satisfies Partial<DiskFacts>;

/** One run: writes packs as disks come in, and in the end one point. Nothing is visible before `commit` resolves. */
export class BackupSession {
  readonly #repository: Repository;
  readonly #options: SessionOptions;
  readonly #runId: Buffer = randomBytes(RUN_ID_LENGTH);
  readonly #sealer: FrameSealer;
  readonly #memory: SessionMemory;
  readonly #shipper: Shipper;
  readonly #data: PackStream;
  readonly #map: PackStream;
  readonly #nodes: NodeReader;
  readonly #recent = new RecentGranules();
  readonly #disks: PointDisk[] = [];
  readonly #captures: PointCapture[] = [];
  readonly #sparse: KnownSparse;
  #damage: Promise<KnownDamage> | null = null;
  #shippedBytes = 0;

  constructor(repository: Repository, options: SessionOptions) {
    this.#repository = repository;
    this.#options = options;
    const { store, domain, keys } = repository;
    const { signal } = options;
    this.#sealer = new FrameSealer(keys);
    this.#memory = options.memory ?? new SessionMemory(keys);
    this.#shipper = new Shipper({
      store,
      domain,
      signal,
      parallel: this.#memory.packs - 1,
      onShipped: (bytes) => (this.#shippedBytes += bytes),
    });
    this.#sparse = new KnownSparse(repository, options.lineage.vmId, signal);
    this.#nodes = new NodeReader({ store, domain, signal, sealer: this.#sealer });
    let ordinal = 0;
    const nextOrdinal = (): number => ordinal++;
    const stream = (buffers: BufferPool): PackStream =>
      new PackStream({
        runId: this.#runId,
        sealer: this.#sealer,
        buffers,
        nextOrdinal,
        ship: async (pack) => await this.#shipper.ship(pack),
      });
    this.#data = stream(this.#memory.data);
    this.#map = stream(this.#memory.map);
  }

  /** bytes stored and read back so far */
  get shippedBytes(): number {
    return this.#shippedBytes;
  }

  /** Starts the worker threads, so that they are there when the first data comes. */
  warm(): void {
    this.#memory.threads.warm();
  }

  /** Stores what is new on one disk; in full where its base turns out not to be what it has. Several disks may be written at once. */
  async writeDisk(content: DiskContent, said: DiskFacts): Promise<PointDisk> {
    const { facts, start, compared, isLost } = await this.#approach(content, said);
    const from = compactedTo(this.#options.lineage.points[0] ?? null, content.name);
    const compaction = await this.#sparse.compaction(content, { compared, isWhole: facts.base === null, from });
    const nodes = this.#nodes;
    const base = imageOf(facts.base, content.name);
    let mapBytes = 0;
    const write = async (node: MapNode): Promise<Reference> => {
      const reference = await this.#writeNode(node);
      mapBytes += reference.length;
      return reference;
    };
    const tree = await TreeBuilder.start(content.size, start, { nodes, write, isStale: (node) => compaction?.isSparse(node) === true });
    const { signal, codec } = this.#options;
    const counted = await writeDisk(content, {
      runId: this.#runId,
      codec,
      slots: this.#memory.slots,
      threads: this.#memory.threads,
      data: this.#data,
      recent: this.#recent,
      tree,
      nodes,
      base,
      references: compared.map((image) => new ImageMap(nodes, image)),
      isLost,
      compaction,
      signal,
      onProgress: facts.onProgress ?? ((): void => undefined),
    });
    const root = await tree.finish();
    const { storedBytes, ...rest } = counted;
    const stats: DiskStats = { ...rest, uploadedBytes: storedBytes + mapBytes, mapBytes };
    const { level, reason, checkpoint, imageInfo } = facts;
    const disk: PointDisk = {
      name: content.name,
      size: content.size,
      level,
      reason,
      base: facts.base?.id ?? null,
      checkpoint,
      root,
      imageInfo,
      stats,
      compactedTo: (compaction?.next ?? from) * GRANULE,
    };
    this.#disks.push(disk);
    return disk;
  }

  /** Keeps a file with the point, e.g. the domain's XML or its NVRAM. */
  async addCapture(name: string, bytes: Uint8Array): Promise<void> {
    const pieces: CapturePiece[] = [];
    for (let at = 0; at < bytes.length; at += CAPTURE_PIECE) {
      const text = bytes.subarray(at, at + CAPTURE_PIECE);
      const sealed = this.#sealer.seal(FrameKind.capture, text, { runId: this.#runId, codec: Codec.zstd });
      const reference = await this.#map.append({ kind: FrameKind.capture, codec: sealed.codec, hash: sealed.hash, stored: sealed.stored });
      pieces.push({ ...reference, textLength: text.length });
    }
    this.#captures.push({ name, size: bytes.length, pieces });
  }

  /** Stores what is still in memory and waits until all of it was read back: the packs are complete, the point is not there yet. */
  async flush(): Promise<void> {
    await this.#data.finish();
    await this.#map.finish();
    await this.#shipper.settle();
  }

  /** Creates the point. */
  async commit({ copied, ...facts }: PointFacts): Promise<PointRecord> {
    await this.flush();
    const { store, catalog } = this.#repository;
    const { lineage, vm, signal } = this.#options;
    const run = this.#runId.toString("hex");
    if (!this.#shipper.sums.isEmpty) await writeSums(this.#repository, run, this.#shipper.sums, signal);
    const time = await store.now({ signal });
    // Prune may have given up what an older run refers to.
    if (!mayCommit(lineage.asOf.getTime(), time.getTime())) {
      throw new RepositoryError("run-too-old", "The backup took longer than 24 hours and is not committed", {
        hint: "What it uploaded is not lost for good but will not be used; give the store more bandwidth",
      });
    }
    await this.#requireBases(catalog);
    const parent = lineage.points[0] ?? null;
    const point: PointRecord = {
      id: pointId(lineage.vmId, lineage.nextSeq),
      seq: lineage.nextSeq,
      time: time.toISOString(),
      vm,
      run,
      parent: parent?.id ?? null,
      ...facts,
      ...copied,
      disks: this.#disks.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      captures: this.#captures,
    };
    await catalog.commit(lineage.vmId, point, signal);
    await this.#requireInTime(point);
    await this.#requireDomain(point);
    return point;
  }

  /** A machine that slept between the last look at the time and the commit has slept through what prune did: it takes the point back. */
  async #requireInTime(point: PointRecord): Promise<void> {
    const { store, catalog } = this.#repository;
    const { lineage, signal } = this.#options;
    const seen = await store.now({ signal });
    if (wasInTime(lineage.asOf.getTime(), seen.getTime())) return;
    await catalog.forget(point.id, signal);
    throw new RepositoryError(
      "run-too-old",
      `The restore point ${point.id} was committed more than 24 hours after its backup began, and was forgotten`,
      {
        hint: "This machine may have slept meanwhile; run the backup again",
      },
    );
  }

  /** Who destroys a domain writes down its machines: a point that may have come after is taken back, so that it is not taken for a lost one. */
  async #requireDomain(point: PointRecord): Promise<void> {
    const { signal } = this.#options;
    try {
      await this.#repository.requireWhole(signal);
    } catch (thrown) {
      if (thrown instanceof RepositoryError && thrown.code === "domain-destroyed") await this.#repository.catalog.forget(point.id, signal);
      throw thrown;
    }
  }

  /** Ends the threads, and after a failure what is still on its way to the store: nothing goes on behind the caller's back. */
  async close(): Promise<void> {
    if (this.#options.memory === undefined) await this.#memory.close();
    await this.#shipper.drain();
  }

  /** What a disk stands on and is compared with, by what is known of that. */
  async #approach(content: DiskContent, said: DiskFacts): Promise<Approach> {
    const damage = await (this.#damage ??= readDamage(this.#repository, this.#options.signal));
    const facts = await this.#trusted(content, said, damage);
    const earlier = imageOf(said.base, content.name);
    const compared = distinct([...facts.similar, ...(earlier === null ? [] : [earlier])]);
    // What is read whole needs nothing of what may be damaged: neither its granules nor nodes of its map.
    if (!damage.isEmpty && facts.base === null) return { facts, compared, start: null, isLost: (reference) => damage.has(reference) };
    // With no clean extents any start is right; the one most like the new disk shares most nodes.
    return { facts, compared, start: earlier ?? facts.similar[0] ?? null, isLost: null };
  }

  /** The disk as it was said to be, or in full where its base contradicts that or is damaged. */
  async #trusted(content: DiskContent, said: DiskFacts, damage: KnownDamage): Promise<DiskFacts> {
    if (damage.touches(this.#options.lineage.points[0]?.id ?? null, content.name)) return { ...said, ...DAMAGED };
    return (await this.#contradictsBase(content, said.base)) ? { ...said, ...CONTRADICTED } : said;
  }

  async #contradictsBase(content: DiskContent, point: PointRecord | null): Promise<boolean> {
    const image = imageOf(point, content.name);
    if (image === null) return false;
    const hash = (text: Uint8Array): Buffer => this.#sealer.hash(FrameKind.granule, text);
    const base = new ImageMap(this.#nodes, image);
    return await contradictsBase({ content, base, trusted: trustedUpTo(content.size, image), hash, signal: this.#options.signal });
  }

  /** What the new maps share with older points must still be there. */
  async #requireBases(catalog: Catalog): Promise<void> {
    const ids = new Set([...this.#disks.map((disk) => disk.base), this.#options.lineage.points[0]?.id ?? null].filter((id) => id !== null));
    for (const id of ids) await catalog.point(id, this.#options.signal);
  }

  async #writeNode(node: MapNode): Promise<Reference> {
    const sealed = this.#sealer.seal(FrameKind.node, encodeNode(node), { runId: this.#runId, codec: Codec.none });
    return await this.#map.append({ kind: FrameKind.node, codec: sealed.codec, hash: sealed.hash, stored: sealed.stored });
  }
}

/** The image of a point's disk. */
export function imageOf(point: PointRecord | null, disk: string): ImageRoot | null {
  const found = point?.disks.find((one) => one.name === disk);
  return found === undefined ? null : { size: found.size, root: found.root };
}

/** Granule at which to go on looking for sparse packs. */
function compactedTo(latest: PointRecord | null, disk: string): number {
  return Math.floor((latest?.disks.find(({ name }) => name === disk)?.compactedTo ?? 0) / GRANULE);
}

function distinct(images: readonly SimilarImage[]): SimilarImage[] {
  const seen = new Set<string>();
  return images.filter((image) => {
    if (image.root === null) return false;
    const key = JSON.stringify(referenceToJson(image.root));
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
