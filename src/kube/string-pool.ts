/** Longer ones are hardly ever said twice. */
const MAX_LENGTH = 64;
/** Strings remembered; then it begins anew, so that names and UIDs that are said once are not kept for ever. */
const MAX_KNOWN = 4096;

/** Makes equal strings one and the same. Objects of a kind say the same again and again, and `JSON.parse` makes a string of its own of each. */
export class StringPool {
  readonly #known = new Map<string, string>();

  /** Shares the strings in a parsed document, in place. Gives the document. */
  share<T>(value: T): T {
    if (typeof value === "string") return this.#one(value) as T;
    if (typeof value !== "object" || value === null) return value;
    const members = value as Record<string, unknown>;
    for (const name of Object.keys(members)) {
      const member = members[name];
      if (typeof member === "string") members[name] = this.#one(member);
      else if (typeof member === "object") this.share(member);
    }
    return value;
  }

  #one(text: string): string {
    if (text.length > MAX_LENGTH) return text;
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(text, text);
    return text;
  }
}
