/** A command that was run, or a file that was written, and what the reader sees of it. */
export interface Shown {
  /** `kubectl get …`, or the file's name. */
  readonly title: string;
  readonly text: string;
}

/** A fenced block of a page that shows what a command said (`console`, after `$ command`) or what is in a file (`yaml`, after `# name`). */
interface Block {
  readonly title: string;
  readonly text: string;
  /** The fence's language, with the first line. */
  readonly head: string;
  readonly from: number;
  readonly to: number;
}

/** What differs from one telling of the story to the next. */
const FLEETING: readonly (readonly [RegExp, string])[] = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, "TIME"],
  [/\b\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4}\b/g, "TIME"],
  [/\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000/g, "TIME"],
  // kubectl cuts long annotations.
  [/\{"claims":.*/g, "FACTS"],
  [/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, "UID"],
  [/\bweb-\d{8}-\d{6}-[0-9a-z]{8}\b/g, "POINT"],
  [/\b[0-9a-f]{32}\b/g, "ID"],
  [/\b[0-9a-f]{12}-(\d+)\b/g, "ID-$1"],
  [/\bgold-web-(?:\d{8}-\d{6}|m[0-9a-z]{8})\b/g, "RUN"],
  [/\b(ts-[a-z]+)-[0-9a-f]{10}-\d+\b/g, "$1-HASH"],
  [/\b(persistent-state-for-[a-z-]+)-[0-9a-z]{5}\b/g, "$1-HASH"],
  [/\bthinstream-[0-9a-f]{8,10}-[0-9a-z]{5}\b/g, "CONTROLLER"],
  [/http:\/\/127\.0\.0\.1:\d+/g, "ENDPOINT"],
  [/\bnode-[ab]\b/g, "NODE"],
  [/\b\d+(?:\.\d+)? (?:B|KiB|MiB|GiB)(?![\w-])/g, "SIZE"],
  [/(Bytes|Resource Version|Keep): +\d+/g, "$1: N"],
  [/ \(x\d+ over [^)]*\)/g, ""],
  [/<invalid>|(?<![\w.-])(?:\d+[dhms]){1,2}(?![\w.-])/g, "AGE"],
  // Columns are as wide as what is in them.
  [/-{3,}/g, "---"],
  [/[ \t]+/g, " "],
];

/** A text without what differs from one telling to the next. */
export function lasting(text: string): string {
  const plain = FLEETING.reduce((so, [pattern, word]) => so.replace(pattern, word), text);
  const lines = sortedEvents(plain.split("\n").map((line) => line.trimEnd()));
  // The same again is how often something happened to happen.
  return lines
    .filter((line, index) => line !== lines[index - 1])
    .join("\n")
    .trim();
}

/** Of one second they come in any order. */
function sortedEvents(lines: readonly string[]): readonly string[] {
  const begin = lines.indexOf("Events:") + 1;
  return begin === 0 ? lines : [...lines.slice(0, begin), ...lines.slice(begin).toSorted()];
}

/** What a page shows other than the story has it, as sentences. */
export function stale(page: string, shown: readonly Shown[]): string[] {
  return paired(page, shown).flatMap(({ block, truth }) => {
    if (truth === undefined) return [`the story does not show this (so often): ${block.title}`];
    if (lasting(block.text) === lasting(truth.text)) return [];
    return [`${block.title} says now:\n${truth.text}\n--- and not, as the page has it:\n${block.text}`];
  });
}

/** The page with what the story shows. */
export function rewritten(page: string, shown: readonly Shown[]): string {
  return paired(page, shown).reduceRight((so, { block, truth }) => {
    if (truth === undefined) return so;
    const head = block.head.startsWith("console") ? `console\n$ ${truth.title}` : `yaml\n# ${truth.title}`;
    return `${so.slice(0, block.from)}\`\`\`${head}\n${truth.text.replace(/[ \t]+$/gm, "")}\n\`\`\`${so.slice(block.to)}`;
  }, page);
}

/** The page's blocks: the second one of a command with what it said the second time. */
function paired(page: string, shown: readonly Shown[]): readonly { readonly block: Block; readonly truth: Shown | undefined }[] {
  const seen = new Map<string, number>();
  return blocksOf(page).map((block) => {
    const key = lasting(block.title);
    const before = seen.get(key) ?? 0;
    seen.set(key, before + 1);
    return { block, truth: shown.filter(({ title }) => lasting(title) === key)[before] };
  });
}

function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^```((?:console\n\$|yaml\n#) (.*))\n([^]*?)^```$/gm)].map((match) => ({
    head: match[1] ?? "",
    title: match[2] ?? "",
    text: (match[3] ?? "").trimEnd(),
    from: match.index,
    to: match.index + match[0].length,
  }));
}
