import { readFileSync } from "node:fs";

/** One request as the API server's audit log tells it. */
export interface AuditedRequest {
  /** `system:serviceaccount:<namespace>:<name>`, `admin`, ... */
  readonly user: string;
  /** `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`. */
  readonly verb: string;
  /** `virtualmachines`, or `pods/status` for a subresource; empty for a path that is none, as `/version`. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  /** The HTTP status it was answered with. */
  readonly code: number;
  readonly at: Date;
  /** False for a watch that is still open. */
  readonly ended: boolean;
}

interface Line {
  readonly auditID: string;
  readonly stage: string;
  readonly verb: string;
  readonly user?: { readonly username?: string };
  readonly objectRef?: { readonly resource?: string; readonly subresource?: string; readonly namespace?: string; readonly name?: string };
  readonly responseStatus?: { readonly code?: number };
  readonly requestReceivedTimestamp: string;
}

const WRITES: ReadonlySet<string> = new Set(["create", "update", "patch", "delete", "deletecollection"]);

/** Whether a request changes something, so that "writes per second" counts it. */
export function isWrite({ verb }: AuditedRequest): boolean {
  return WRITES.has(verb);
}

/** Every request in an audit log, in the order of their arrival in it. The API server writes an answer down just after it gave it. */
export function readAudit(file: string): AuditedRequest[] {
  const found = new Map<string, AuditedRequest>();
  // What follows the last line break is a line that is being written.
  for (const text of readFileSync(file, "utf8").split("\n").slice(0, -1)) {
    const line = JSON.parse(text) as Line;
    found.set(line.auditID, requestOf(line)); // a watch is told twice, when it opens and when it ends
  }
  return [...found.values()];
}

function requestOf(line: Line): AuditedRequest {
  const { resource = "", subresource, namespace = "", name = "" } = line.objectRef ?? {};
  return {
    user: line.user?.username ?? "",
    verb: line.verb,
    resource: subresource === undefined ? resource : `${resource}/${subresource}`,
    namespace,
    name,
    code: line.responseStatus?.code ?? 0,
    at: new Date(line.requestReceivedTimestamp),
    ended: line.stage !== "ResponseStarted",
  };
}
