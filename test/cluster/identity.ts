import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { LabError, run, tierPath } from "../lab/index.ts";
import type { Certificate } from "./certificates.ts";

/** kubectl or helm ended badly; the message carries what it said. */
export class ClusterError extends LabError {
  override readonly name: string = "ClusterError";
  /** The API server's word where it gave one: `Forbidden`, `NotFound`, `AlreadyExists`; else empty. */
  readonly reason: string;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = /Error from server \((\w+)\)/.exec(message)?.[1] ?? "";
  }
}

/** What kubectl or helm reads as its standard input, and when it is killed. */
export interface CommandOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
}

/** Someone who talks to the API server: a kubeconfig, and the programs that use it. */
export class Identity {
  readonly kubeconfig: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor(kubeconfig: string) {
    this.kubeconfig = kubeconfig;
    // kubectl's and helm's caches and settings go where everything of this cluster goes.
    this.#env = { PATH: process.env["PATH"], HOME: dirname(kubeconfig), KUBECONFIG: kubeconfig };
  }

  /** Standard output of kubectl. @throws ClusterError */
  kubectl(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return this.#run("kubectl", args, options);
  }

  /** Standard output of helm. @throws ClusterError */
  helm(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return this.#run("helm", args, options);
  }

  /** An object, or a list of them, as kubectl gets it. @throws ClusterError */
  async get<T>(...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.kubectl(["get", ...args, "-o", "json"])) as T;
  }

  /** Applies objects as they are given, or manifests as text. @throws ClusterError */
  async apply(manifest: string | readonly object[]): Promise<void> {
    const input = typeof manifest === "string" ? manifest : JSON.stringify({ apiVersion: "v1", kind: "List", items: manifest });
    await this.kubectl(["apply", "-f", "-"], { input });
  }

  async #run(program: "kubectl" | "helm", args: readonly string[], options: CommandOptions): Promise<string> {
    try {
      return await run(join(tierPath("cluster"), program), args, { ...options, env: this.#env });
    } catch (cause) {
      throw new ClusterError((cause as LabError).message, { cause });
    }
  }
}

/** Who a kubeconfig says its user is. */
export type Credential = Certificate | { readonly token: string };

/** Writes a kubeconfig, as JSON, which is YAML too. Only its owner may read it. */
export function writeKubeconfig(file: string, at: { readonly server: string; readonly ca: string }, credential: Credential): string {
  const user = "token" in credential ? credential : { "client-certificate": credential.cert, "client-key": credential.key };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "lab",
    clusters: [{ name: "lab", cluster: { server: at.server, "certificate-authority": at.ca } }],
    users: [{ name: "lab", user }],
    contexts: [{ name: "lab", context: { cluster: "lab", user: "lab" } }],
  };
  writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
  return file;
}
