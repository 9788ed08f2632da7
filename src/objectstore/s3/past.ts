import type { DeleteMarkerEntry, ListObjectVersionsCommandInput, ObjectVersion } from "@aws-sdk/client-s3";

import { notFound } from "../keys.ts";
import type { ObjectStat } from "../objectstore.ts";
import type { S3Session } from "./client.ts";
import { goesOn } from "./pages.ts";

/** Versions whose keys are kept in mind. */
const REMEMBERED = 100_000;

/** An object as it was: which version of it. */
interface PastObject extends ObjectStat {
  readonly versionId: string;
}

type Call = S3Session & { readonly abortSignal: AbortSignal };

/** One page of the versions in a bucket. */
export interface PastPage {
  readonly objects: readonly PastObject[];
  /** where the next page begins; null after the last */
  readonly next: Marker | null;
}

/** What a page goes on from, and the key that the one before has settled. */
export interface Marker {
  readonly key: string | undefined;
  readonly versionId: string | undefined;
  readonly settled: string;
}

/**
 * The objects of a versioned bucket as they were at a time. Who has the rights of a writer can overwrite an object or put a delete marker on it; under a
 * lock the versions from before stay, and this finds them.
 */
export class Past {
  readonly at: Date;
  readonly #bucket: string;
  readonly #known = new Map<string, PastObject>();

  constructor(at: Date, bucket: string) {
    this.at = at;
    this.#bucket = bucket;
  }

  /** The version of one object, by its whole key. Rejects `not-found` where there was none. @param key for the message */
  async find(call: Call, whole: string, key: string): Promise<PastObject> {
    const known = this.#known.get(whole);
    if (known !== undefined) return known;
    let marker: Marker | null = null;
    do {
      const page: PastPage = await this.page(call, whole, marker);
      const found = page.objects.find((object) => object.key === whole);
      if (found !== undefined) return found;
      // Keys that begin with this one come after it.
      marker = page.next !== null && (page.next.key ?? "") <= whole ? page.next : null;
    } while (marker !== null);
    throw notFound(key);
  }

  /** Objects whose whole keys begin with `prefix`, in order, with whole keys. @param from null: the first page */
  async page({ sdk, client, abortSignal }: Call, prefix: string, from: Marker | null): Promise<PastPage> {
    const input: ListObjectVersionsCommandInput = {
      Bucket: this.#bucket,
      Prefix: prefix,
      KeyMarker: from?.key,
      VersionIdMarker: from?.versionId,
    };
    const answer = await client.send(new sdk.ListObjectVersionsCommand(input), { abortSignal });
    const entries = [...(answer.Versions ?? []), ...(answer.DeleteMarkers ?? [])].toSorted(byKeyAndAge);
    const found = this.#asOf(entries, from?.settled ?? "");
    const { IsTruncated, NextKeyMarker: key, NextVersionIdMarker: versionId } = answer;
    const next = goesOn(IsTruncated, key) ? { key, versionId, settled: found.settled } : null;
    return { objects: found.objects, next };
  }

  /** Of each key the newest that is not too new; nothing where that is a delete marker. @param settled a key that an earlier page has settled */
  #asOf(entries: readonly Entry[], settled: string): { readonly objects: readonly PastObject[]; readonly settled: string } {
    const objects: PastObject[] = [];
    let last = settled;
    for (const entry of entries) {
      const { key, modified } = nameOf(entry);
      if (key === last || modified > this.at) continue;
      last = key;
      if (!isVersion(entry)) continue;
      const object = { key, modified, versionId: entry.VersionId ?? "", size: entry.Size ?? 0 };
      this.#remember(object);
      objects.push(object);
    }
    return { objects, settled: last };
  }

  #remember(object: PastObject): void {
    this.#known.set(object.key, object);
    if (this.#known.size > REMEMBERED) this.#known.delete(this.#known.keys().next().value as string);
  }
}

type Entry = ObjectVersion | DeleteMarkerEntry;

function isVersion(entry: Entry): entry is ObjectVersion {
  return "Size" in entry;
}

function nameOf({ Key: key = "", LastModified: modified = new Date(0) }: Entry): { readonly key: string; readonly modified: Date } {
  return { key, modified };
}

/** Newest first; of the same moment what has data before what takes it away. */
function byKeyAndAge(a: Entry, b: Entry): number {
  const [one, other] = [nameOf(a), nameOf(b)];
  if (one.key !== other.key) return one.key < other.key ? -1 : 1;
  const age = other.modified.getTime() - one.modified.getTime();
  return age === 0 ? Number(isVersion(b)) - Number(isVersion(a)) : age;
}
