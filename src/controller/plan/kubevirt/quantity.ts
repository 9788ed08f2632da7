const suffixes: Readonly<Record<string, number>> = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** A Kubernetes quantity such as `10Gi`, `1.5G` or `1e9` in whole units, rounded up; null for what is none. */
export function parseQuantity(text: string): number | null {
  const match = /^\+?(\d+(?:\.\d*)?|\.\d+)(?:([mkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?$/.exec(text);
  if (match === null) return null;
  const value = Number(match[1]) * (suffixes[match[2] ?? ""] ?? 1) * 10 ** Number(match[3] ?? 0);
  return Math.ceil(value);
}

/** Bytes as a quantity, in the largest binary unit that has no fraction. */
export function formatQuantity(bytes: number): string {
  const unit = ["Ti", "Gi", "Mi", "Ki"].find((one) => bytes > 0 && bytes % (suffixes[one] ?? 1) === 0);
  return unit === undefined ? String(bytes) : `${bytes / (suffixes[unit] ?? 1)}${unit}`;
}
