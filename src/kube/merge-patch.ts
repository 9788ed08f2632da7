/** The JSON merge patch (RFC 7396) that makes `to` of `from`; undefined where they are the same. A missing field and an undefined one are. */
export function mergePatch(from: unknown, to: unknown): unknown {
  if (!isObject(from) || !isObject(to)) return isSame(from, to) ? undefined : to;
  const patch: Record<string, unknown> = {};
  for (const name of new Set([...Object.keys(from), ...Object.keys(to)])) {
    if (to[name] === undefined) {
      if (from[name] !== undefined) patch[name] = null;
    } else {
      const inner = mergePatch(from[name], to[name]);
      if (inner !== undefined) patch[name] = inner;
    }
  }
  return Object.keys(patch).length === 0 ? undefined : patch;
}

/** Whether two values are the same as JSON, whatever the order of their fields. */
function isSame(one: unknown, other: unknown): boolean {
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((item, index) => isSame(item, other[index]));
  }
  return isObject(one) && isObject(other) ? mergePatch(one, other) === undefined : one === other;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
