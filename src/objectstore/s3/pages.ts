import { StoreError } from "../errors.ts";

/**
 * Whether a list goes on after a page. Rejects an answer that is no list, such as a proxy's page of its own or an empty body, and one that does
 * not say where the rest is: either would pass for a list of few objects, or none.
 * @param next where the rest begins
 */
export function goesOn(isTruncated: boolean | undefined, next: string | undefined): boolean {
  if (isTruncated === undefined) throw new StoreError("failed", "the store answered a request for a list with something that is none");
  if (isTruncated && (next === undefined || next === "")) throw new StoreError("failed", "the store does not say where its list goes on");
  return isTruncated;
}
