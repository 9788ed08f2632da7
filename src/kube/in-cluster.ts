import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isIPv6 } from "node:net";
import { join } from "node:path";
import { errorText } from "../lib/errors.ts";
import { type Access, type Credentials, Remembered } from "./credentials.ts";
import { KubeError } from "./errors.ts";

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
/** The kubelet renews a token when a fifth of its life, of an hour or so, is left; client-go reads it once a minute too. */
const TOKEN_AGE = 60_000;

/** Where a pod finds its service account; another for tests. */
export interface InClusterOptions {
  readonly dir?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Whether this process runs in a pod with a service account. */
export function isInCluster({ dir = SERVICE_ACCOUNT, env = process.env }: InClusterOptions = {}): boolean {
  return Boolean(env["KUBERNETES_SERVICE_HOST"]) && existsSync(join(dir, "token"));
}

/**
 * The service account of the pod. This one needs no `@kubernetes/client-node`: its generated classes would cost the controller a quarter
 * of a second and 55 MiB of resident memory for the reading of two files.
 */
export async function inClusterCredentials(options: InClusterOptions = {}): Promise<Credentials> {
  const { dir = SERVICE_ACCOUNT, env = process.env } = options;
  const server = serverOf(env);
  const current = new Remembered(TOKEN_AGE, async (): Promise<Access> => {
    const [token, ca] = await Promise.all([read(dir, "token"), read(dir, "ca.crt")]);
    return { server, headers: { authorization: `Bearer ${token.trim()}` }, tls: { ca } };
  });
  await current.get();
  const namespace = await readFile(join(dir, "namespace"), "utf8").then(
    (text) => text.trim() || undefined,
    () => undefined,
  );
  return { namespace, access: () => current.get(), refresh: () => current.forget() };
}

function serverOf(env: Readonly<Record<string, string | undefined>>): URL {
  const host = env["KUBERNETES_SERVICE_HOST"];
  if (host === undefined || host === "") {
    throw new KubeError("not-configured", "KUBERNETES_SERVICE_HOST is not set: this process runs in no pod", { hint: "give a kubeconfig" });
  }
  return new URL(`https://${isIPv6(host) ? `[${host}]` : host}:${env["KUBERNETES_SERVICE_PORT"] ?? "443"}`);
}

async function read(dir: string, name: string): Promise<string> {
  try {
    return await readFile(join(dir, name), "utf8");
  } catch (cause) {
    throw new KubeError("not-configured", `the service account's ${name} cannot be read: ${errorText(cause)}`, {
      cause,
      hint: "let the pod mount its service account's token (automountServiceAccountToken)",
    });
  }
}
