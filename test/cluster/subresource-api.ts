import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Server } from "node:https";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { text } from "node:stream/consumers";
import type { ControlPlane } from "./control-plane.ts";
import { FRONT_PROXY } from "./flags.ts";

/** What someone asked of a virtual machine instance; the API server has found that they may. */
export interface SubresourceCall {
  readonly verb: "freeze" | "unfreeze";
  readonly namespace: string;
  readonly name: string;
  /** `system:serviceaccount:<namespace>:<name>`, `admin`, ... */
  readonly user: string;
  /** As it came: a freeze may carry `{"unfreezeTimeout":"5m0s"}`. */
  readonly body: string;
}

/** Does what was asked. What it throws is the answer: a Refusal with its own status, anything else as 500, as KubeVirt answers. */
export type SubresourceHandler = (call: SubresourceCall) => Promise<void> | void;

/** A status other than success, e.g. `new Refusal(409, "Conflict", "VM is not running")`. */
export class Refusal extends Error {
  override readonly name: string = "Refusal";
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

const GROUP = "subresources.kubevirt.io";
const GROUP_VERSION = `${GROUP}/v1`;
const NAMESPACE = "kubevirt";
const SERVICE = "virt-api";
const CALL = new RegExp(`^/apis/${GROUP_VERSION}/namespaces/([^/]+)/virtualmachineinstances/([^/]+)/(freeze|unfreeze)$`);

/**
 * Serves KubeVirt's `freeze` and `unfreeze` under `/apis/subresources.kubevirt.io/v1`, as virt-api does: the API server
 * authenticates, authorizes by RBAC, and passes on. Gives the function that ends it.
 * @throws ClusterError when the API server does not come to see it as available
 */
export async function serveSubresources(plane: ControlPlane, handler: SubresourceHandler): Promise<() => Promise<void>> {
  const { cert, key } = await plane.authority.issue(SERVICE, { subject: `/CN=${SERVICE}`, names: [`${SERVICE}.${NAMESPACE}.svc`] });
  // Only the API server may say who the user is, so nobody else is let in.
  const trust = { ca: readFileSync(plane.layout.frontProxyCa), requestCert: true, rejectUnauthorized: true };
  const server = createServer({ ...trust, cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
    void answer(request, response, handler);
  });
  server.listen(0, "127.0.0.1").unref();
  await once(server, "listening");
  const stop = (): Promise<void> => close(server);
  try {
    await register(plane, (server.address() as AddressInfo).port);
    return stop;
  } catch (cause) {
    await stop();
    throw cause;
  }
}

async function register({ admin, layout }: ControlPlane, port: number): Promise<void> {
  const service = { namespace: NAMESPACE, name: SERVICE, port };
  await admin.apply([
    { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } },
    // No pod network reaches this process, and endpoints may not be loopback addresses; of an external name the API server asks nothing.
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: SERVICE, namespace: NAMESPACE },
      spec: { type: "ExternalName", externalName: "127.0.0.1" },
    },
    {
      apiVersion: "apiregistration.k8s.io/v1",
      kind: "APIService",
      metadata: { name: `v1.${GROUP}` },
      spec: {
        group: GROUP,
        version: "v1",
        service,
        caBundle: readFileSync(layout.ca.cert).toString("base64"),
        groupPriorityMinimum: 1000,
        versionPriority: 15,
      },
    },
  ]);
  await admin.kubectl(["wait", "--for=condition=Available", `apiservice/v1.${GROUP}`, "--timeout=60s"]);
}

async function answer(request: IncomingMessage, response: ServerResponse, handler: SubresourceHandler): Promise<void> {
  try {
    const found = await respond(request, handler);
    response.writeHead(200, { "content-type": "application/json" }).end(found === undefined ? "" : JSON.stringify(found));
  } catch (cause) {
    const { code, reason, message } = cause instanceof Refusal ? cause : new Refusal(500, "InternalError", String(cause));
    const status = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code };
    response.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify(status));
  }
}

async function respond(request: IncomingMessage, handler: SubresourceHandler): Promise<object | undefined> {
  const { method, url = "", headers, socket } = request;
  if ((socket as TLSSocket).getPeerCertificate().subject.CN !== FRONT_PROXY) throw new Refusal(401, "Unauthorized", "not the API server");
  const path = url.split("?")[0] ?? "";
  if (path === `/apis/${GROUP_VERSION}`) return discovery();
  const [, namespace, name, verb] = CALL.exec(path) ?? [];
  if (namespace === undefined || name === undefined || method !== "PUT") throw new Refusal(404, "NotFound", `no ${method} ${path} here`);
  const user = String(headers["x-remote-user"]);
  await handler({ verb: verb as SubresourceCall["verb"], namespace, name, user, body: await text(request) });
  return undefined; // KubeVirt answers with an empty body
}

function discovery(): object {
  const resources = ["freeze", "unfreeze"].map((verb) => `virtualmachineinstances/${verb}`);
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion: GROUP_VERSION,
    resources: resources.map((name) => ({ name, singularName: "", namespaced: true, kind: "VirtualMachineInstance", verbs: ["update"] })),
  };
}

async function close(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}
