/** A module: a folder of `src` that others enter by its `index.ts` alone. */
export interface Module {
  /** Modules it may import, all of them below it. */
  readonly mayImport: readonly string[];
  /** Why, for the one who breaks the rule. */
  readonly why: string;
  /** Computes and nothing else: of `node:` it may import `pureBuiltins` alone. */
  readonly pure?: true;
}

const adapter: Module = { mayImport: ["lib", "objectstore"], why: "an adapter knows its port and nothing else of ours" };

/** The picture of the design, as a table: imports only go down it. `lib` has no door: its files stand for themselves. */
export const modules: Readonly<Record<string, Module>> = {
  lib: { mayImport: [], why: "lib stands under everything and knows no domain word" },
  api: { mayImport: ["lib"], pure: true, why: "api is types and schemas, and what follows from them alone" },
  retention: {
    mayImport: ["lib"],
    pure: true,
    why: "retention is points and rules to verdicts, the same for the operator and the command line",
  },
  "repository/format": { mayImport: ["lib"], pure: true, why: "the format is bytes to values and back: no file, network, clock or chance" },
  objectstore: { mayImport: ["lib"], why: "the port and its wrappers know no adapter; cli alone names adapters" },
  "objectstore/memory": adapter,
  "objectstore/fs": adapter,
  "objectstore/s3": adapter,
  nbd: { mayImport: ["lib"], why: "nbd is a binding: it knows nothing else of ours" },
  libvirt: { mayImport: ["lib"], why: "libvirt is a binding: it knows nothing else of ours" },
  kube: { mayImport: ["lib", "api"], why: "kube is the one door to the cluster" },
  repository: { mayImport: ["lib", "repository/format", "objectstore"], why: "the repository stores any engine's disks in any store" },
  "controller/plan": { mayImport: ["lib", "api"], pure: true, why: "a plan is facts to decisions: no API server, clock or chance" },
  controller: { mayImport: ["lib", "api", "retention", "kube", "controller/plan"], why: "the control plane never touches disk data" },
  agent: {
    mayImport: ["lib", "api", "repository", "libvirt", "nbd"],
    why: "the agent has no cluster rights and no say in where the store is",
  },
  restore: { mayImport: ["lib", "api", "repository", "libvirt", "nbd"], why: "a restore needs a repository and a target, and no cluster" },
  copy: { mayImport: ["lib", "repository"], why: "a copy knows two repositories, and neither machines nor stores" },
  cli: {
    // prettier-ignore
    mayImport: ["lib", "api", "retention", "objectstore", "objectstore/memory", "objectstore/fs", "objectstore/s3", "nbd", "libvirt", "kube", "repository", "controller", "agent", "restore", "copy"],
    why: "cli wires everything together and nothing imports it",
  },
};

/** What a pure module may use of Node. */
export const pureBuiltins: readonly string[] = ["node:buffer", "node:crypto", "node:util", "node:zlib"];

/** npm packages and the one place of each: a folder (ends in `/`) or file below `src`. A package that is not here is at home nowhere. */
export const homes: Readonly<Record<string, readonly string[]>> = {
  koffi: ["libvirt/native.ts", "nbd/native.ts", "repository/format/lz4.ts"],
  "fast-xml-parser": ["libvirt/"],
  "fast-xml-builder": ["libvirt/"],
  "@aws-sdk/*": ["objectstore/s3/"],
  "@smithy/*": ["objectstore/s3/"],
  "@kubernetes/client-node": ["kube/"],
  "@napi-rs/*": ["repository/"],
  "lz4-napi": ["repository/"],
  pino: ["lib/log.ts", "cli/"],
  typebox: ["api/"],
  commander: ["cli/"],
  croner: ["controller/plan/"],
  "prom-client": [
    "controller/serve/metrics.ts",
    "controller/serve/reading.ts",
    "controller/serve/request-figures.ts",
    "controller/serve/run-figures.ts",
  ],
};

/** The module a path below `src` belongs to: the deepest folder of the table that holds it. */
export function moduleOf(path: string): string | undefined {
  const holding = Object.keys(modules).filter((name) => path.startsWith(`${name}/`));
  return holding.toSorted((a, b) => b.length - a.length)[0];
}

/** A module and those nested in it are one piece of work and need no door between them. */
export function shareFolder(one: string, other: string): boolean {
  return one.split("/")[0] === other.split("/")[0];
}
