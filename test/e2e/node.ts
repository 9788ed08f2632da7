import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ControlPlane, Identity } from "../cluster/index.ts";
import { SERVICE_ADDRESS, writeKubeconfig } from "../cluster/index.ts";
import { startSilentProxy } from "../kube/silent-proxy.ts";
import { LabError, needTier, run, Server, tierPath } from "../lab/index.ts";
import type { NodeLayout } from "./config.ts";
import { CONTAINERD_SOCKET, containerdConfig, IMAGE, kubeletConfig, networkConfig, NODE_ADDRESS } from "./config.ts";

/** A real node of a control plane: containerd with runc, a kubelet, and pods with addresses of their own. */
export class Node {
  readonly layout: NodeLayout;
  readonly #stops: (() => Promise<void>)[] = [];

  private constructor(layout: NodeLayout) {
    this.layout = layout;
  }

  /**
   * Starts one with the image of this checkout, and waits until it is ready. It belongs to the machine that test/e2e/enclose.sh makes.
   * @throws LabError
   */
  static async start(plane: ControlPlane, name: string): Promise<Node> {
    needTier("e2e");
    const { THINSTREAM_E2E_DIR: dir, THINSTREAM_E2E_CGROUP: cgroup } = process.env;
    if (dir === undefined || cgroup === undefined) throw new LabError("a node needs a machine of its own: npm run e2e");
    const node = new Node({ name, dir, cgroup, bin: join(tierPath("e2e"), "bin"), clientCa: plane.layout.ca.cert });
    try {
      await node.#startContainerd();
      await node.#import("pause.oci.tar");
      await node.bringImage();
      // Nobody else carries out what Services say: this one alone is asked for.
      await node.expose(plane.layout.ports.api, { host: SERVICE_ADDRESS, port: 443 });
      await node.#startKubelet(plane);
      await plane.admin.kubectl(["wait", "--for=condition=Ready", "node", name, "--timeout=180s"], { timeoutMs: 200_000 });
      return node;
    } catch (cause) {
      await node.stop();
      throw cause;
    }
  }

  /** Lets pods reach a port of 127.0.0.1. */
  async expose(port: number, at: { readonly host: string; readonly port: number } = { host: NODE_ADDRESS, port }): Promise<void> {
    const way = await startSilentProxy(port, at);
    this.#stops.push(() => way.stop());
  }

  /** Puts a directory of this machine in the place of one of the node's. @throws LabError */
  async place(path: string, directory: string): Promise<void> {
    mkdirSync(path, { recursive: true });
    await run("mount", ["--bind", directory, path]);
  }

  /** containerd's command line, in the kubelet's part of it. @throws LabError */
  ctr(...args: readonly string[]): Promise<string> {
    return run(join(this.layout.bin, "ctr"), ["-a", CONTAINERD_SOCKET, "-n", "k8s.io", ...args], { timeoutMs: 300_000 });
  }

  /** Our image, as it was built. @throws LabError */
  async bringImage(): Promise<void> {
    await this.#import("thinstream.oci.tar");
  }

  /** What runs goes on; what starts has to pull it, and there is nowhere to pull it from. @throws LabError */
  async removeImage(): Promise<void> {
    await this.ctr("images", "rm", IMAGE);
  }

  async #import(archive: string): Promise<void> {
    await this.ctr("images", "import", join(tierPath("e2e"), archive));
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.toReversed()) await stop();
  }

  async #startContainerd(): Promise<void> {
    const { dir, bin } = this.layout;
    mkdirSync(join(dir, "cni"));
    writeFileSync(join(dir, "cni/10-pods.conflist"), JSON.stringify(networkConfig));
    writeFileSync(join(dir, "containerd.toml"), containerdConfig(this.layout));
    const answers = (): Promise<boolean> =>
      this.ctr("version").then(
        () => true,
        () => false,
      );
    await this.#startServer("containerd", ["--config", join(dir, "containerd.toml")], answers, `${bin}:${process.env["PATH"]}`);
  }

  async #startKubelet(plane: ControlPlane): Promise<void> {
    const { dir, name } = this.layout;
    const certificate = await plane.authority.issue("kubelet", { subject: `/O=system:nodes/CN=system:node:${name}` });
    const kubeconfig = writeKubeconfig(join(dir, "kubelet.kubeconfig"), { server: plane.server, ca: plane.layout.ca.cert }, certificate);
    await grantNodes(plane.admin);
    writeFileSync(join(dir, "resolv.conf"), "");
    writeFileSync(join(dir, "kubelet.json"), JSON.stringify(kubeletConfig(this.layout)));
    const args = [
      `--config=${join(dir, "kubelet.json")}`,
      `--kubeconfig=${kubeconfig}`,
      `--hostname-override=${name}`,
      `--node-ip=${NODE_ADDRESS}`,
      "--v=2",
    ];
    const known = (): Promise<boolean> =>
      plane.admin.get("node", name).then(
        () => true,
        () => false,
      );
    await this.#startServer("kubelet", args, known);
  }

  async #startServer(
    name: string,
    args: readonly string[],
    ready: () => Promise<boolean>,
    path: string | undefined = process.env["PATH"],
  ): Promise<void> {
    const { dir, bin } = this.layout;
    const server = new Server({ name, command: join(bin, name), args, env: { PATH: path, HOME: dir }, log: this.log(name) });
    this.#stops.push(() => server.stop());
    await server.untilReady(ready);
  }

  /** The file that a daemon's output goes to. */
  log(name: "containerd" | "kubelet" | (string & {})): string {
    return join(this.layout.dir, `${name}.log`);
  }
}

/** Kubernetes' own role for kubelets is bound to nobody where the API server has no authorizer for nodes. */
async function grantNodes(admin: Identity): Promise<void> {
  await admin.apply([
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "lab-nodes" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "system:node" },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "system:nodes" }],
    },
  ]);
}
