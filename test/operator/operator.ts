import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { ControllerConfigFile } from "../../src/api/index.ts";
import type { Repo } from "../acceptance/world.ts";
import type { ControlPlane, Identity } from "../cluster/index.ts";
import { checkout, freePort, LabError, tempDir } from "../lab/index.ts";
import { patience } from "../support/patience.ts";

export const NAMESPACE = "thinstream-system";

/** Our kinds, in place. */
export async function applyCrds(admin: Identity): Promise<void> {
  const dir = join(checkout(), "crds");
  for (const file of readdirSync(dir).filter((name) => name.endsWith(".yaml"))) await admin.apply(readFileSync(join(dir, file), "utf8"));
  await admin
    .kubectl(["wait", "--for=condition=Established", "--timeout=60s", "crd", "-l", "app.kubernetes.io/name=thinstream"])
    .catch(() => undefined);
}

/** The controller as a process, with a service account's rights. */
export class Operator {
  readonly dir: string = tempDir("operator");
  /** Of its own endpoints, since it was started. */
  metricsPort = 0;
  readonly #plane: ControlPlane;
  readonly #settings: Partial<ControllerConfigFile>;
  #child: ReturnType<typeof spawn> | null = null;

  /** @param settings instead of those that a test has by default */
  constructor(plane: ControlPlane, settings: Partial<ControllerConfigFile> = {}) {
    this.#plane = plane;
    this.#settings = settings;
  }

  get log(): string {
    return readFileSync(join(this.dir, "controller.log"), "utf8");
  }

  /** MiB that the process has resident now, and the most it had. */
  memory(): { readonly now: number; readonly peak: number } {
    const status = readFileSync(`/proc/${this.#child?.pid}/status`, "utf8");
    const mib = (name: string): number => Math.round(Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) / 1024);
    return { now: mib("VmRSS"), peak: mib("VmHWM") };
  }

  /** An answer of its own endpoints. */
  async ask(path: string): Promise<{ readonly status: number; readonly text: string }> {
    const answer = await fetch(`http://127.0.0.1:${this.metricsPort}${path}`, { signal: AbortSignal.timeout(5000) });
    return { status: answer.status, text: await answer.text() };
  }

  /** Starts it, and waits until it leads, or where another does until it is ready to. @throws LabError */
  async start(identity: Identity = this.#plane.admin, until: "leading" | "ready" = "leading"): Promise<void> {
    const config = join(this.dir, "config.json");
    this.metricsPort = await freePort();
    writeFileSync(config, JSON.stringify({ ...configuration, ...this.#settings, metricsPort: this.metricsPort }));
    const log = createWriteStream(join(this.dir, "controller.log"), { flags: "a" });
    await once(log, "open");
    // As in the image: the launcher ends in an exec, so what is started is one process, with the settings that it gives Node.
    const args = [join(checkout(), "src/cli/thinstream.sh"), "controller", "--config", config, "--kubeconfig", identity.kubeconfig];
    const env = { ...process.env, POD_NAME: basename(this.dir) };
    const run = (): ReturnType<typeof spawn> => spawn("sh", args, { stdio: ["ignore", log, log], env });
    const child = run();
    this.#child = child;
    const deadline = Date.now() + 120_000 * patience();
    const before = this.log.length;
    const isThere = async (): Promise<boolean> =>
      until === "leading"
        ? this.log.slice(before).includes('"msg":"leading"')
        : await this.ask("/readyz").then(
            ({ status }) => status === 200,
            () => false,
          );
    while (!(await isThere())) {
      if (child.exitCode !== null || Date.now() > deadline) throw new LabError(`the controller is not ${until}:\n${this.log.slice(-4000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    this.#keep(child, run);
  }

  /** Who ends by itself, as a leader does that could not renew its lease in time, is started again, as by its Deployment. */
  #keep(child: ReturnType<typeof spawn>, run: () => ReturnType<typeof spawn>): void {
    child.once("exit", () => {
      if (this.#child !== child) return;
      this.#child = run();
      this.#keep(this.#child, run);
    });
  }

  /** @param signal SIGKILL for one that dies, SIGTERM for one that is told to end */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill(signal);
    await exit;
  }
}

export const configuration: ControllerConfigFile = {
  version: 1,
  namespace: NAMESPACE,
  image: "registry.test/thinstream:test",
  imagePullPolicy: "IfNotPresent",
  imagePullSecrets: [],
  kubeletRoot: "/var/lib/kubelet",
  maxAgents: 50,
  syncSeconds: 600,
  agentPort: 9443,
  agent: { priorityClassName: null, serviceAccount: null, tolerations: [], resources: {}, holderResources: {}, selinuxType: null },
};

/** A BackupRepository for a repository that is there, with its Secrets. */
export function repositoryObjects(name: string, repo: Repo): readonly object[] {
  const url = new URL(repo.url);
  const secret = (secretName: string, stringData: object): object => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: secretName, namespace: NAMESPACE },
    stringData,
  });
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = repo.env;
  return [
    secret(`${name}-s3`, { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY }),
    secret(`${name}-key`, { "thinstream.key": readFileSync(repo.keyFile, "utf8") }),
    {
      apiVersion: "thinstream.dev/v1alpha1",
      kind: "BackupRepository",
      metadata: { name },
      spec: {
        s3: {
          endpoint: url.searchParams.get("endpoint"),
          region: url.searchParams.get("region") ?? "us-east-1",
          bucket: url.hostname,
          prefix: url.pathname.slice(1),
          credentialsSecretRef: { name: `${name}-s3` },
        },
        encryption: { mode: "ClientSide", keySecretRef: { name: `${name}-key` } },
      },
    },
  ];
}

/** A condition of an object, once it is as wanted or a while has passed. */
export async function conditionWhen(
  admin: Identity,
  { kind, name, namespace, type }: { readonly kind: string; readonly name: string; readonly namespace?: string; readonly type: string },
  good: (condition: Seen) => boolean,
  ms: number = 90_000,
): Promise<Seen> {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await admin.get<{ status?: { conditions?: readonly Seen[] } }>(
      kind,
      name,
      ...(namespace === undefined ? [] : ["-n", namespace]),
    );
    const condition = found.status?.conditions?.find((one) => one.type === type) ?? { type, status: "", reason: "", message: "" };
    if (good(condition) || Date.now() > deadline) return condition;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

export interface Seen {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}
