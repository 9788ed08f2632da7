import { join } from "node:path";
import type { Certificate } from "./certificates.ts";

/** Where everything of one control plane lies and listens. */
export interface Layout {
  readonly dir: string;
  readonly ports: {
    readonly etcd: number;
    readonly peer: number;
    readonly api: number;
    readonly controllers: number;
    readonly scheduler: number;
  };
  readonly ca: Certificate;
  readonly serving: Certificate;
  /** Whom aggregated APIs trust to say who the user is. */
  readonly frontProxyCa: string;
  readonly frontProxy: Certificate;
  readonly tokenKey: string;
  readonly auditLog: string;
}

/** The name in the certificate by which an aggregated API knows the API server. */
export const FRONT_PROXY = "front-proxy-client";

/** The API server's own among the services' addresses: what pods of a real node ask. */
export const SERVICE_ADDRESS = "10.96.0.1";

const AUDIT_POLICY: string = join(import.meta.dirname, "audit-policy.yaml");

/** Data of a test need not survive a power cut, and waiting for the disk is most of what etcd does. */
export function etcdFlags({ dir, ports }: Layout): string[] {
  const peer = `http://127.0.0.1:${ports.peer}`;
  return [
    `--data-dir=${dir}/etcd`,
    "--unsafe-no-fsync",
    "--log-level=warn",
    `--listen-client-urls=http://127.0.0.1:${ports.etcd}`,
    `--advertise-client-urls=http://127.0.0.1:${ports.etcd}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
  ];
}

export function apiServerFlags({ ports, ca, serving, frontProxyCa, frontProxy, tokenKey, auditLog }: Layout): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${ports.etcd}`,
    "--bind-address=127.0.0.1",
    // Else it looks for an address of the machine's, and a machine without a network has none.
    "--advertise-address=127.0.0.1",
    `--secure-port=${ports.api}`,
    // An Endpoints object may not name a loopback address, and nothing here asks for `kubernetes.default.svc`.
    "--endpoint-reconciler-type=none",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--allow-privileged",
    "--authorization-mode=RBAC",
    `--client-ca-file=${ca.cert}`,
    `--tls-cert-file=${serving.cert}`,
    `--tls-private-key-file=${serving.key}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${tokenKey}`,
    `--service-account-signing-key-file=${tokenKey}`,
    // Whom a real kubelet lets read logs. A node's name is no DNS name here.
    `--kubelet-client-certificate=${serving.cert}`,
    `--kubelet-client-key=${serving.key}`,
    "--kubelet-preferred-address-types=InternalIP",
    `--requestheader-client-ca-file=${frontProxyCa}`,
    `--requestheader-allowed-names=${FRONT_PROXY}`,
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    `--proxy-client-cert-file=${frontProxy.cert}`,
    `--proxy-client-key-file=${frontProxy.key}`,
    `--audit-policy-file=${AUDIT_POLICY}`,
    `--audit-log-path=${auditLog}`,
    "--audit-log-maxsize=10000", // MB: one file from the beginning on
  ];
}

export function controllerFlags({ ports, ca, serving, tokenKey }: Layout, kubeconfig: string): string[] {
  return [
    ...componentFlags(kubeconfig, serving, ports.controllers),
    "--use-service-account-credentials",
    // A simulated node's heart beats every two seconds: that one is gone is noticed after ten, not after fifty.
    "--node-monitor-grace-period=10s",
    "--node-monitor-period=2s",
    `--service-account-private-key-file=${tokenKey}`,
    `--root-ca-file=${ca.cert}`,
  ];
}

export function schedulerFlags({ ports, serving }: Layout, kubeconfig: string): string[] {
  return componentFlags(kubeconfig, serving, ports.scheduler);
}

function componentFlags(kubeconfig: string, serving: Certificate, port: number): string[] {
  const identity = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"].map((flag) => `--${flag}=${kubeconfig}`);
  return [
    ...identity,
    "--leader-elect=false",
    "--bind-address=127.0.0.1",
    `--secure-port=${port}`,
    `--tls-cert-file=${serving.cert}`,
    `--tls-private-key-file=${serving.key}`,
  ];
}
