import type { ConfigClaim } from "../format/config.ts";
import { FormatError } from "../format/errors.ts";
import { decodeRotation, type Rotation } from "../format/rotation.ts";
import { rotationAt } from "../layout.ts";
import { tryGet } from "../try-get.ts";
import type { KeyPlaces } from "./repository-key.ts";

const MAX_BYTES = 4096;
export const MAX_ROTATIONS = 9999;

export interface RotationHistory {
  /** null: the first key is still the repository's */
  readonly newest: Rotation | null;
  /** ids of the keys that earlier rotations brought in, where they can be read */
  readonly earlier: readonly string[];
}

/** Asks for one after the other, as for points: no list is needed. A damaged one counts by being there, and only the newest must be whole. */
export async function readRotations(claim: ConfigClaim, places: KeyPlaces): Promise<RotationHistory> {
  const earlier: string[] = [];
  let newest: Rotation | FormatError | null = null;
  for (let number = 1; number <= MAX_ROTATIONS; number++) {
    const found: Rotation | FormatError | null = await readRotation(number, claim.id, places).catch((thrown: unknown) => {
      if (thrown instanceof FormatError) return thrown;
      throw thrown;
    });
    if (found === null) break;
    if (newest !== null && !(newest instanceof FormatError)) earlier.push(newest.keyId);
    newest = found;
  }
  if (newest instanceof FormatError) throw newest;
  return { newest, earlier };
}

export async function readRotation(number: number, repositoryId: Uint8Array, { store, signal }: KeyPlaces): Promise<Rotation | null> {
  const at = rotationAt(number);
  const bytes = await tryGet(store, at, { maxBytes: MAX_BYTES, ...(signal === undefined ? {} : { signal }) });
  return bytes === null ? null : decodeRotation(bytes, number, { at, repositoryId });
}
