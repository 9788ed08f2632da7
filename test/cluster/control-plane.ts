import { readFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { LabError, Server, freePort, needTier, tempDir, tierPath } from "../lab/index.ts";
import type { AuditedRequest } from "./audit.ts";
import { readAudit } from "./audit.ts";
import type { Certificate } from "./certificates.ts";
import { Authority, signingKey } from "./certificates.ts";
import type { Layout } from "./flags.ts";
import { FRONT_PROXY, SERVICE_ADDRESS, apiServerFlags, controllerFlags, etcdFlags, schedulerFlags } from "./flags.ts";
import { Identity, writeKubeconfig } from "./identity.ts";

/** Parts beyond etcd and the API server. Without `controllers` there are no default service accounts, no garbage collection, no Jobs' pods. */
export interface ControlPlaneOptions {
  readonly controllers?: boolean;
  readonly scheduler?: boolean;
}

/** A real Kubernetes API with nobody behind it: objects live as in any cluster, no kubelet runs pods. */
export class ControlPlane {
  /** `https://127.0.0.1:<port>`, the same after a restart. */
  readonly server: string;
  /** Everything of this control plane, its logs too. */
  readonly dir: string;
  readonly layout: Layout;
  readonly authority: Authority;
  /** A member of `system:masters`. */
  readonly admin: Identity;
  readonly #running = new Map<string, Server>();

  private constructor(layout: Layout, authority: Authority, admin: Certificate) {
    this.layout = layout;
    this.dir = layout.dir;
    this.server = `https://127.0.0.1:${layout.ports.api}`;
    this.authority = authority;
    this.admin = this.#identity("admin", admin);
  }

  /**
   * Starts a control plane in a directory and on ports of its own. It ends with this process in any case.
   * @throws LabError when the tier is not there or a part of it does not come up
   */
  static async start({ controllers = false, scheduler = false }: ControlPlaneOptions = {}): Promise<ControlPlane> {
    needTier("cluster");
    const plane = await ControlPlane.#prepare();
    try {
      await plane.#startServer("etcd", etcdFlags(plane.layout), () => plane.#etcdAnswers());
      await plane.startApiServer();
      const parts = [...(controllers ? [plane.#startControllers()] : []), ...(scheduler ? [plane.#startScheduler()] : [])];
      await Promise.all(parts);
      return plane;
    } catch (cause) {
      await plane.stop();
      throw cause;
    }
  }

  static async #prepare(): Promise<ControlPlane> {
    const dir = tempDir("cluster");
    const [authority, proxies] = await Promise.all([Authority.create(join(dir, "pki")), Authority.create(join(dir, "front-proxy"))]);
    const [serving, frontProxy, admin] = await Promise.all([
      authority.issue("kube-apiserver", {
        subject: "/CN=kube-apiserver",
        names: ["127.0.0.1", "localhost", "kubernetes.default.svc", SERVICE_ADDRESS],
      }),
      proxies.issue("client", { subject: `/CN=${FRONT_PROXY}` }),
      authority.issue("admin", { subject: "/O=system:masters/CN=admin" }),
    ]);
    const [etcd, peer, api, controllers, scheduler] = await Promise.all([freePort(), freePort(), freePort(), freePort(), freePort()]);
    const layout: Layout = {
      dir,
      ports: { etcd, peer, api, controllers, scheduler },
      ca: authority.root,
      serving,
      frontProxyCa: proxies.root.cert,
      frontProxy,
      tokenKey: signingKey(join(dir, "pki/tokens.key")),
      auditLog: join(dir, "audit.log"),
    };
    return new ControlPlane(layout, authority, admin);
  }

  /** Starts the API server again: same port, same data. @throws LabError */
  startApiServer(): Promise<void> {
    return this.#startServer("kube-apiserver", apiServerFlags(this.layout), () => this.#healthy(this.layout.ports.api, "/readyz"));
  }

  /** Kills the API server, as a node failure would; etcd and the data stay. */
  async stopApiServer(): Promise<void> {
    await this.#running.get("kube-apiserver")?.stop();
  }

  /**
   * Makes the API server forget every version that anyone has seen: etcd is compacted, and a restart empties the caches that
   * would still serve old ones. Who watches or lists on from such a version then gets 410 Expired.
   */
  async forgetHistory(): Promise<void> {
    await this.stopApiServer();
    // A key that is not Kubernetes' own makes a version that nobody has seen.
    const { header } = await this.#etcd<{ header: { revision: string } }>("put", { key: btoa("/lab/newer") });
    await this.#etcd("compaction", { revision: header.revision, physical: true });
    await this.startApiServer();
  }

  /** Who a service account is, with a token of an hour. The account must exist. @throws ClusterError */
  async serviceAccount(namespace: string, name: string): Promise<Identity> {
    const token = await this.admin.kubectl(["create", "token", name, "-n", namespace, "--duration=1h"]);
    return this.#identity(`${namespace}-${name}`, { token: token.trim() });
  }

  /** What was asked of the API server since it was first started. */
  requests(): AuditedRequest[] {
    return readAudit(this.layout.auditLog);
  }

  /** Kills everything; safe to call again. */
  async stop(): Promise<void> {
    await Promise.all([...this.#running.values()].map((server) => server.stop()));
  }

  #identity(name: string, credential: Parameters<typeof writeKubeconfig>[2]): Identity {
    const at = { server: this.server, ca: this.layout.ca.cert };
    return new Identity(writeKubeconfig(join(this.dir, `${name}.kubeconfig`), at, credential));
  }

  async #startControllers(): Promise<void> {
    const { kubeconfig } = await this.#component("kube-controller-manager");
    // It calls itself healthy long before its controllers run, and ends when it loses the API server in between.
    const works = (): Promise<boolean> => this.admin.get("serviceaccount", "default").then(Boolean, () => false);
    await this.#startServer("kube-controller-manager", controllerFlags(this.layout, kubeconfig), works);
  }

  async #startScheduler(): Promise<void> {
    const { kubeconfig } = await this.#component("kube-scheduler");
    const healthy = (): Promise<boolean> => this.#healthy(this.layout.ports.scheduler, "/readyz");
    await this.#startServer("kube-scheduler", schedulerFlags(this.layout, kubeconfig), healthy);
  }

  /** Kubernetes' own roles name its parts as users. */
  async #component(name: string): Promise<Identity> {
    return this.#identity(name, await this.authority.issue(name, { subject: `/CN=system:${name}` }));
  }

  async #startServer(name: string, args: readonly string[], ready: () => Promise<boolean>): Promise<void> {
    if (this.#running.get(name)?.running === true) throw new LabError(`${name} runs already`);
    const env = { PATH: process.env["PATH"], HOME: this.dir };
    const server = new Server({ name, command: join(tierPath("cluster"), name), args, env, log: join(this.dir, `${name}.log`) });
    this.#running.set(name, server);
    await server.untilReady(ready);
  }

  #healthy(port: number, path: string): Promise<boolean> {
    const ca = readFileSync(this.layout.ca.cert);
    return new Promise((resolve) => {
      const request = get({ host: "127.0.0.1", port, path, ca, agent: false, timeout: 5000 }, (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      });
      request.on("timeout", () => request.destroy(new Error("no answer")));
      request.on("error", () => resolve(false));
    });
  }

  async #etcdAnswers(): Promise<boolean> {
    const url = `http://127.0.0.1:${this.layout.ports.etcd}/health`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
    await answer?.body?.cancel();
    return answer?.ok === true;
  }

  /** A call of etcd's own interface, by its JSON gateway. */
  async #etcd<T>(call: string, body: object): Promise<T> {
    const answer = await fetch(`http://127.0.0.1:${this.layout.ports.etcd}/v3/kv/${call}`, { method: "POST", body: JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new LabError(`etcd refused ${call}: ${answer.status} ${text}`);
    return JSON.parse(text) as T;
  }
}
