import { createHash } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { labelValue } from "../../../src/api/index.ts";
import { holderPod } from "../../../src/controller/plan/holder-pod.ts";
import { holderMounts } from "../../../src/controller/plan/kubevirt/host-paths.ts";
import type { PodManifest, PodSettings } from "../../../src/controller/plan/pod-manifest.ts";
import { type AgentPod, agentPod, orderSecret, workName } from "../../../src/controller/plan/pod.ts";
import { InvalidValueError } from "../../../src/lib/invalid-value.ts";
import { type Part, plan, running, stopped } from "./machine.ts";

const settings: PodSettings = {
  operatorNamespace: "thinstream",
  image: "registry.example/thinstream:0.1.0",
  imagePullPolicy: "IfNotPresent",
  imagePullSecrets: ["pull"],
  priorityClassName: "backup",
  tolerations: [{ key: "dedicated", operator: "Exists" }],
  agentResources: { requests: { cpu: "500m", memory: "300Mi" }, limits: { memory: "600Mi" } },
  holderResources: { requests: { cpu: "10m", memory: "16Mi" }, limits: { memory: "32Mi" } },
  agentServiceAccount: "thinstream-agent",
  selinuxType: "spc_t",
};
const owner = {
  uid: "0b9c2f4e-1111-4222-8333-444455556666",
  kind: "VirtualMachineBackup",
  namespace: "shop",
  name: "nightly-web",
  attempt: 1,
};
const parts: readonly Part[] = [{ name: "root" }, { name: "data", claim: { volumeMode: "Block" } }];

function backupPod(more: Partial<AgentPod> = {}): AgentPod {
  const decision = plan(running(parts));
  if (decision.kind !== "ready" || decision.source.engine !== "libvirt") throw new Error("the machine runs");
  return {
    work: "backup",
    owner,
    repository: "main",
    node: "n1",
    digest: "sha256:abcd",
    files: ["kubernetes.json"],
    credentialsSecret: "s3",
    keySecret: "key",
    mounts: decision.source.mounts,
    channelPort: 9443,
    deadlineSeconds: 3600,
    ...more,
  };
}

function volumesOf(held: readonly Part[]): ReturnType<typeof holderMounts> {
  const decision = plan(stopped(held));
  return holderMounts("/var/lib/kubelet/pods/holder", decision.kind === "ready" ? decision.source.disks : [], false);
}

async function expectGolden(manifest: unknown, name: string): Promise<void> {
  await expect(`${JSON.stringify(manifest, null, 2)}\n`).toMatchFileSnapshot(
    join(import.meta.dirname, "../../golden/controller", `${name}.json`),
  );
}

describe("golden", () => {
  test("an agent of a running machine", () => expectGolden(agentPod(backupPod(), settings), "agent-backup-pod"));
  test("an agent that restores to file systems", () =>
    expectGolden(agentPod(backupPod({ work: "restore", mounts: volumesOf([{ name: "root" }]) }), settings), "agent-restore-pod"));
  test("an agent without disks", () =>
    expectGolden(
      agentPod(backupPod({ work: "catalog", node: null, mounts: [], files: ["ca.pem"], keySecret: null }), {
        ...settings,
        agentServiceAccount: null,
      }),
      "agent-catalog-pod",
    ));
  test("a holder", () => {
    const volumes = [
      { volume: "root", claim: "web-root", mode: "Filesystem" as const },
      { volume: "data", claim: "web-data", mode: "Block" as const },
    ];
    return expectGolden(
      holderPod({ owner, namespace: "shop", repository: "main", node: "n7", volumes, readOnly: true, deadlineSeconds: 3600 }, settings),
      "holder-pod",
    );
  });
  test("an order's Secret", () =>
    expectGolden(
      orderSecret('{"version":1}', { "kubernetes.json": "{}" }, { work: "backup", owner, repository: "main", node: "n1", settings }).secret,
      "order-secret",
    ));
});

/** What must hold of every container of ours. */
function rightsOf({ spec }: PodManifest): Record<string, unknown> {
  return spec.containers[0].securityContext as Record<string, unknown>;
}

describe("rights", () => {
  test("an agent has those it needs for its directories, and without any it is not root", () => {
    const capabilities = (pod: AgentPod): unknown => rightsOf(agentPod(pod, settings))["capabilities"];
    for (const work of ["backup", "restore"] as const)
      expect(capabilities(backupPod({ work }))).toEqual({ drop: ["ALL"], add: ["DAC_OVERRIDE", "CHOWN", "FOWNER"] });
    expect(capabilities(backupPod({ work: "forget", mounts: [] }))).toEqual({ drop: ["ALL"] });
    expect(agentPod(backupPod({ mounts: [] }), settings).spec.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65_532 });
  });

  test("only an agent that opens devices itself is privileged, and where a machine runs QEMU opens them", () => {
    expect(rightsOf(agentPod(backupPod({ mounts: volumesOf(parts) }), settings))).toEqual({
      privileged: true,
      readOnlyRootFilesystem: true,
    });
    expect(rightsOf(agentPod(backupPod(), settings))).toMatchObject({ privileged: false, allowPrivilegeEscalation: false });
  });

  test("no agent has a token, another host path than the machine's, or a host's namespace", () => {
    const pod = agentPod(backupPod(), settings);
    expect(pod.spec).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false, restartPolicy: "Never" });
    const hostPaths = pod.spec.volumes.flatMap((volume) => ("hostPath" in volume ? [(volume.hostPath as { path: string }).path] : []));
    expect(hostPaths).toHaveLength(5);
    for (const path of hostPaths) expect(path).toMatch(/^\/var\/lib\/kubelet\/pods\/pod-uid\/volume/);
    expect(JSON.stringify(pod)).not.toMatch(/hostNetwork|hostPID|hostIPC/);
  });

  test("a holder meets the restricted Pod Security Standard", () => {
    const pod = holderPod(
      { owner, namespace: "shop", repository: "main", node: null, volumes: [], readOnly: false, deadlineSeconds: 60 },
      settings,
    );
    expect(pod.spec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    expect(rightsOf(pod)).toEqual({
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(JSON.stringify(pod)).not.toMatch(/hostPath|secret|imagePullSecrets|AWS/i);
  });
});

describe("an order's Secret", () => {
  const from = { work: "backup", owner, repository: "main", node: "n1", settings } as const;

  test("has the pod's name and the digest of the order", () => {
    const order = '{"version":1,"text":"ä"}';
    const { secret, digest } = orderSecret(order, {}, from);
    expect(secret.metadata.name).toBe(agentPod(backupPod(), settings).metadata.name);
    expect(digest).toBe(
      `sha256:${createHash("sha256")
        .update(Buffer.from(secret.data["order.json"] ?? "", "base64"))
        .digest("hex")}`,
    );
  });

  test("that would be more than a Secret holds is refused in words", () => {
    expect(() => orderSecret("{}", { "kubernetes.json": "x".repeat(1_000_000) }, from)).toThrow(InvalidValueError);
    expect(() => orderSecret("{}", { "kubernetes.json": "x".repeat(1_000_000) }, from)).toThrow(
      /the objects of shop\/nightly-web have 1000002 bytes/,
    );
  });
});

test("names and labels are valid and tell runs and attempts apart", () => {
  fc.assert(
    fc.property(
      fc.uuid(),
      fc.integer({ min: 1, max: 100 }),
      fc.string({ maxLength: 253 }),
      fc.string({ maxLength: 253 }),
      (uid, attempt, one, other) => {
        expect(workName("backup", { uid, attempt })).toMatch(/^ts-backup-[0-9a-f]{10}-[0-9]+$/);
        expect(workName("backup", { uid, attempt })).not.toBe(workName("backup", { uid, attempt: attempt + 1 }));
        for (const value of [labelValue(one), labelValue(other)])
          expect(value).toMatch(/^(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$/);
        if (one !== other) expect(labelValue(one)).not.toBe(labelValue(other));
      },
    ),
  );
});
