import type { Credentials } from "./credentials.ts";
import {
  type KubeObject,
  type Manifest,
  type ObjectRef,
  type ResourceKind,
  apiVersionOf,
  collectionPath,
  describeObject,
  objectPath,
  resourceName,
} from "./object.ts";
import { type Answers, type Call, type CallOptions, type RequestOptions, Requests, parseAnswer } from "./requests.ts";
import { type WatchEvent, watchEvents } from "./watch-stream.ts";

/** Who we are in `metadata.managedFields`. */
const FIELD_MANAGER = "thinstream";
const MAX_LOG = 256 * 1024;

/** Which objects of a kind. */
export interface Selection {
  /** Default: all namespaces. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
}

export interface ListPage<T extends KubeObject> {
  /** As they are in the answer: `apiVersion` and `kind` are filled in, which the server leaves out of lists of its own kinds. */
  readonly items: readonly T[];
  /** The version of the whole list, the same on each page: where a watch goes on. */
  readonly resourceVersion: string;
  /** How many follow this page, as far as the server knows. */
  readonly remaining: number | undefined;
}

export interface WriteOptions extends CallOptions {
  /** Everything is checked and nothing is stored. */
  readonly dryRun?: boolean;
  /** e.g. `status` */
  readonly subresource?: string;
  /** What becomes of fields the server does not know; default `Strict`: they are an error. */
  readonly fieldValidation?: "Strict" | "Warn" | "Ignore";
}

export interface DeleteOptions extends CallOptions {
  /** Only this very object, not one of the same name. */
  readonly uid?: string | undefined;
  /** Only in this version. */
  readonly resourceVersion?: string | undefined;
  readonly propagation?: "Background" | "Foreground" | "Orphan";
  readonly gracePeriodSeconds?: number;
}

export interface WatchOptions extends Selection {
  readonly resourceVersion: string;
  readonly signal?: AbortSignal | undefined;
  /** seconds after which the server ends it; default 300 */
  readonly timeoutSeconds?: number;
  /** milliseconds without a word after which the connection counts as dead; default 150,000: bookmarks come once a minute */
  readonly silenceMs?: number;
  /** Called when the server has taken the watch. */
  readonly opened?: () => void;
}

export interface LogOptions extends CallOptions {
  readonly container?: string;
  /** Default 100. */
  readonly tailLines?: number;
  /** Of the container's run before. */
  readonly previous?: boolean;
}

/** The Kubernetes API for any kind. Every call throws `KubeError`, or `signal.reason`. */
export class KubeClient {
  /** The namespace of the pod or of the kubeconfig's context. */
  readonly namespace: string | undefined;
  readonly #requests: Requests;

  constructor(credentials: Credentials, options: RequestOptions = {}) {
    this.namespace = credentials.namespace;
    this.#requests = new Requests(credentials, options);
  }

  /** What the server answered so far, for metrics. */
  get answers(): readonly Answers[] {
    return this.#requests.answers;
  }

  /** Closes the connections at rest; calls that still run are not hurt. */
  close(): void {
    this.#requests.close();
  }

  /** `v1.35.4` */
  async serverVersion(options: CallOptions = {}): Promise<string> {
    const answer = await this.#json<{ gitVersion: string }>(
      { doing: "ask the API server for its version", method: "GET", path: "/version" },
      options,
    );
    return answer.gitVersion;
  }

  async get<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef, options: CallOptions = {}): Promise<T> {
    return await this.#json<T>({ doing: `get ${describeObject(kind, ref)}`, method: "GET", path: objectPath(kind, ref) }, options);
  }

  /** All of them, `limit` (default 500) to a page. `gone` after a page that took minutes: begin again. */
  async *list<T extends KubeObject>(
    kind: ResourceKind<T>,
    options: Selection & CallOptions & { readonly limit?: number } = {},
  ): AsyncGenerator<ListPage<T>, void, undefined> {
    const { namespace, labelSelector, fieldSelector, limit = 500 } = options;
    const doing = `list ${describeSelection(kind, options)}`;
    const envelope = { apiVersion: apiVersionOf(kind), kind: kind.kind };
    let from: string | undefined;
    do {
      const path = collectionPath(kind, namespace) + query({ labelSelector, fieldSelector, limit, continue: from });
      const { metadata, items } = await this.#json<ListAnswer<T>>({ doing, method: "GET", path }, options);
      from = metadata.continue || undefined;
      yield {
        items: (items ?? []).map((item) => ({ ...envelope, ...item })),
        resourceVersion: metadata.resourceVersion,
        remaining: metadata.remainingItemCount,
      };
    } while (from !== undefined);
  }

  async create<T extends KubeObject>(kind: ResourceKind<T>, manifest: Manifest, options: WriteOptions = {}): Promise<T> {
    const { name = `${manifest.metadata.generateName ?? ""}…`, namespace } = manifest.metadata;
    const doing = `create ${describeObject(kind, { name, namespace })}`;
    return await this.#write<T>({ doing, method: "POST", path: collectionPath(kind, namespace), body: typed(kind, manifest) }, options);
  }

  /** Puts an object in the place of the one of its name; `conflict` where that is not the version in `metadata.resourceVersion`, if given. */
  async replace<T extends KubeObject>(
    kind: ResourceKind<T>,
    object: Omit<T, "apiVersion" | "kind">,
    options: WriteOptions = {},
  ): Promise<T> {
    const ref = (object as Pick<T, "metadata">).metadata;
    const path = objectPath(kind, ref, options.subresource);
    const doing = `replace ${describeTarget(kind, ref, options)}`;
    return await this.#write<T>({ doing, method: "PUT", path, body: typed(kind, object) }, options);
  }

  /** JSON merge patch: null takes a field away, lists are replaced as wholes. With `metadata.resourceVersion` in it: only that version. */
  async patch<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef, patch: object, options: WriteOptions = {}): Promise<T> {
    const call = {
      doing: `patch ${describeTarget(kind, ref, options)}`,
      method: "PATCH" as const,
      path: objectPath(kind, ref, options.subresource),
      body: JSON.stringify(patch),
    };
    return await this.#write<T>(call, options, "application/merge-patch+json");
  }

  /** Server-side apply: the fields given become ours, made where there is no object yet. `force` takes them from another manager. */
  async apply<T extends KubeObject>(
    kind: ResourceKind<T>,
    manifest: Manifest & { readonly metadata: ObjectRef },
    options: WriteOptions & { readonly force?: boolean } = {},
  ): Promise<T> {
    const path = objectPath(kind, manifest.metadata, options.subresource);
    const doing = `apply ${describeTarget(kind, manifest.metadata, options)}`;
    const call = { doing, method: "PATCH" as const, path, body: typed(kind, manifest), force: options.force ?? false };
    return await this.#write<T>(call, options, "application/apply-patch+yaml");
  }

  /** Deletes one object, or begins to: finalizers may keep it. */
  async delete(kind: ResourceKind, ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    const { uid, resourceVersion, propagation, gracePeriodSeconds } = options;
    const preconditions = uid === undefined && resourceVersion === undefined ? undefined : { uid, resourceVersion };
    const body = JSON.stringify({
      kind: "DeleteOptions",
      apiVersion: "v1",
      preconditions,
      propagationPolicy: propagation,
      gracePeriodSeconds,
    });
    const headers = { "content-type": "application/json" };
    await this.#requests.text(
      { doing: `delete ${describeObject(kind, ref)}`, method: "DELETE", path: objectPath(kind, ref), headers, body },
      options,
    );
  }

  /** A PUT to a sub-resource that is an action, such as KubeVirt's `freeze`; the answer as it came, often empty. */
  async putSubresource(
    kind: ResourceKind,
    ref: ObjectRef,
    action: string,
    options: CallOptions & { readonly body?: object } = {},
  ): Promise<string> {
    const call = {
      doing: `${action} ${describeObject(kind, ref)}`,
      method: "PUT" as const,
      path: objectPath(kind, ref, action),
      headers: { "content-type": "application/json", accept: "*/*" },
      body: JSON.stringify(options.body ?? {}),
    };
    return await this.#requests.text(call, options);
  }

  /** The end of a container's log, 256 KiB at most. */
  async podLog(ref: ObjectRef, options: LogOptions = {}): Promise<string> {
    const { container, tailLines = 100, previous } = options;
    const path = objectPath(pods, ref, "log") + query({ container, tailLines, previous, limitBytes: MAX_LOG });
    const call = { doing: `read the log of ${describeObject(pods, ref)}`, method: "GET" as const, path, headers: { accept: "*/*" } };
    return await this.#requests.text(call, options);
  }

  /** What happens from a version on, until the server ends it. Throws `gone` where that version is forgotten: list again. */
  async *watch<T extends KubeObject>(kind: ResourceKind<T>, options: WatchOptions): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const { namespace, labelSelector, fieldSelector, resourceVersion, signal, timeoutSeconds = 300, silenceMs = 150_000 } = options;
    const selection = { labelSelector, fieldSelector, resourceVersion, timeoutSeconds, watch: true, allowWatchBookmarks: true };
    const doing = `watch ${describeSelection(kind, options)}`;
    const answer = await this.#requests.stream(
      { doing, method: "GET", path: collectionPath(kind, namespace) + query(selection) },
      { signal },
    );
    options.opened?.();
    yield* watchEvents<T>(answer, { doing, silenceMs, signal });
  }

  async #write<T extends KubeObject>(
    { force, ...call }: Call & { readonly force?: boolean },
    options: WriteOptions,
    type: string = "application/json",
  ): Promise<T> {
    const { dryRun = false, fieldValidation = "Strict" } = options;
    const parameters = { fieldManager: FIELD_MANAGER, fieldValidation, dryRun: dryRun ? "All" : undefined, force };
    const headers = { "content-type": type };
    return await this.#json<T>({ ...call, path: call.path + query(parameters), headers }, options);
  }

  async #json<T>(call: Call, options: CallOptions): Promise<T> {
    return parseAnswer(call.doing, await this.#requests.text(call, options)) as T;
  }
}

interface ListAnswer<T> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string; readonly remainingItemCount?: number };
  readonly items: readonly T[] | null;
}

const pods: ResourceKind = { group: "", version: "v1", plural: "pods", kind: "Pod", namespaced: true };

function typed(kind: ResourceKind, object: object): string {
  return JSON.stringify({ ...object, apiVersion: apiVersionOf(kind), kind: kind.kind });
}

function describeTarget(kind: ResourceKind, ref: ObjectRef, { subresource }: WriteOptions): string {
  return `${subresource === undefined ? "" : `the ${subresource} of `}${describeObject(kind, ref)}`;
}

function describeSelection(kind: ResourceKind, { namespace }: Selection): string {
  if (!kind.namespaced) return resourceName(kind);
  return `${resourceName(kind)} in ${namespace === undefined ? "all namespaces" : `namespace "${namespace}"`}`;
}

function query(parameters: Readonly<Record<string, string | number | boolean | undefined>>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== false && value !== "");
  return given.length === 0
    ? ""
    : `?${new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)])).toString()}`;
}
