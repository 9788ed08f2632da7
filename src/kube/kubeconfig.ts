import { existsSync } from "node:fs";
import { Agent, type RequestOptions } from "node:https";
import { homedir } from "node:os";
import { join } from "node:path";
import { errorText } from "../lib/errors.ts";
import { type Access, type Credentials, Remembered } from "./credentials.ts";
import { KubeError } from "./errors.ts";

type KubeConfig = import("@kubernetes/client-node").KubeConfig;

/** Plugins and files are asked at most this often, unless the server refuses what they gave. */
const ACCESS_AGE = 10_000;

export interface KubeconfigOptions {
  /** Path; default the files in KUBECONFIG, else `~/.kube/config`. */
  readonly kubeconfig?: string | undefined;
  /** Default: the file's current context. */
  readonly context?: string | undefined;
}

/** Whether there is a kubeconfig to use when none is named. */
export function hasKubeconfig(): boolean {
  return Boolean(process.env["KUBECONFIG"]) || existsSync(join(homedir(), ".kube", "config"));
}

/**
 * The user of a kubeconfig's context: certificates, tokens, exec plugins, token files, OIDC, proxies, by `@kubernetes/client-node`.
 * Only its configuration is used. Its API classes make a new connection with a new TLS handshake for every request, and a watch of theirs
 * holds every object twice.
 */
export async function kubeconfigCredentials(options: KubeconfigOptions = {}): Promise<Credentials> {
  const { KubeConfig: Config } = await import("@kubernetes/client-node");
  let config = load(new Config(), options);
  const current = new Remembered(ACCESS_AGE, () => accessOf(config));
  return {
    namespace: config.getContextObject(config.getCurrentContext())?.namespace,
    access: () => current.get(),
    refresh: () => {
      // A new one: the old keeps a token until it expires by its own word, even when the cluster has dropped it.
      config = load(new Config(), options);
      current.forget();
    },
  };
}

function load(config: KubeConfig, { kubeconfig, context }: KubeconfigOptions): KubeConfig {
  const what = kubeconfig ?? process.env["KUBECONFIG"] ?? "~/.kube/config";
  try {
    if (kubeconfig === undefined) config.loadFromDefault();
    else config.loadFromFile(kubeconfig);
  } catch (cause) {
    throw new KubeError("not-configured", `the kubeconfig ${what} cannot be read: ${errorText(cause)}`, { cause });
  }
  if (context !== undefined) config.setCurrentContext(context);
  if (!config.getCurrentCluster()?.server) {
    throw new KubeError("not-configured", `the kubeconfig ${what} has no cluster for the context "${config.getCurrentContext() ?? ""}"`, {
      hint: "name a context that is in the file",
    });
  }
  return config;
}

async function accessOf(config: KubeConfig): Promise<Access> {
  const cluster = config.getCurrentCluster();
  const options: RequestOptions = {};
  try {
    await config.applyToHTTPSOptions(options);
    const { ca, cert, key, servername, rejectUnauthorized } = options;
    return {
      server: new URL(cluster?.server ?? ""),
      headers: headersOf(options),
      tls: { ca: pem(ca), cert: pem(cert), key: pem(key), servername, rejectUnauthorized },
      proxy: cluster?.proxyUrl && options.agent instanceof Agent ? options.agent : undefined,
    };
  } catch (cause) {
    throw new KubeError("unauthorized", `the kubeconfig's credentials for ${cluster?.server} are not to be had: ${errorText(cause)}`, {
      cause,
    });
  }
}

function headersOf({ headers, auth }: RequestOptions): Record<string, string> {
  const basic = auth ? { authorization: `Basic ${Buffer.from(auth).toString("base64")}` } : {};
  const given = Object.entries(headers ?? {}).map(([name, value]): [string, string] => [name.toLowerCase(), String(value)]);
  return { ...basic, ...Object.fromEntries(given) };
}

function pem(material: unknown): string | undefined {
  if (typeof material === "string") return material;
  return Buffer.isBuffer(material) ? material.toString("utf8") : undefined;
}
