import { describe, expect, test } from "vitest";
import { parseControllerConfig } from "../../src/api/index.ts";
import { skipWithout } from "../lab/index.ts";
import { chart, helm, image, type Rendered, render, the, valuesFile } from "./chart.ts";

interface Deployment extends Rendered {
  readonly spec: {
    readonly replicas: number;
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>>; readonly annotations: Readonly<Record<string, string>> };
      readonly spec: {
        readonly serviceAccountName: string;
        readonly securityContext: object;
        readonly containers: readonly [{ readonly image: string; readonly securityContext: object; readonly livenessProbe?: object }];
      };
    };
  };
}
interface Role extends Rendered {
  readonly rules: readonly { readonly apiGroups: string[]; readonly resources: string[]; readonly verbs: string[] }[];
}

const configOf = (objects: readonly Rendered[]): ReturnType<typeof parseControllerConfig> =>
  parseControllerConfig(
    (the(objects, "ConfigMap", "ts-thinstream") as Rendered & { data: Record<string, string> }).data["config.json"] ?? "",
  );
const s3 = { bucket: "backups", credentialsSecretRef: { name: "bucket" } };
const repository = { s3, encryption: { keySecretRef: { name: "key" } } };
const everything = {
  endpoints: { enabled: true },
  serviceMonitor: { enabled: true },
  prometheusRule: { enabled: true },
  dashboard: { enabled: true },
  networkPolicy: { enabled: true },
  priorityClass: { create: true },
  repositories: { main: repository },
  policies: { nightly: { schedule: "15 2 * * *", repositoryRef: { name: "main" }, rpo: "24h" } },
};

describe.skipIf(skipWithout("cluster"))("the chart, rendered", () => {
  test("passes helm lint, with nothing said and with everything", async () => {
    expect(await helm("lint", "--strict", chart, "-f", valuesFile(image))).toContain("0 chart(s) failed");
    expect(await helm("lint", "--strict", chart, "-f", valuesFile({ ...image, ...everything }))).toContain("0 chart(s) failed");
  });

  test("writes a configuration that the controller reads", async () => {
    expect(configOf(await render())).toEqual({
      version: 1,
      namespace: "backup",
      image: "registry.test/thinstream:test",
      imagePullPolicy: "IfNotPresent",
      imagePullSecrets: [],
      kubeletRoot: "/var/lib/kubelet",
      maxAgents: 50,
      syncSeconds: 600,
      agentPort: 9443,
      metricsPort: 8080,
      agent: {
        priorityClassName: null,
        serviceAccount: "ts-thinstream-agent",
        tolerations: [],
        resources: { requests: { cpu: "500m", memory: "256Mi" }, limits: { memory: "768Mi" } },
        holderResources: { requests: { cpu: "10m", memory: "64Mi" }, limits: { memory: "128Mi" } },
        selinuxType: null,
      },
    });
  });

  test("hands every value of agents on", async () => {
    const values = {
      image: { repository: "registry.test/thinstream", digest: `sha256:${"0".repeat(64)}`, pullPolicy: "Always" },
      imagePullSecrets: ["pull"],
      kubeletRoot: "/var/lib/k0s/kubelet",
      maxAgents: 7,
      syncSeconds: 60,
      priorityClass: { create: true },
      agent: { port: 9444, selinuxType: "spc_t", tolerations: [{ key: "kvm", operator: "Exists" }], resources: { limits: { cpu: "2" } } },
    };
    const objects = await render(values);
    expect(configOf(objects)).toMatchObject({
      image: `registry.test/thinstream@sha256:${"0".repeat(64)}`,
      imagePullPolicy: "Always",
      imagePullSecrets: ["pull"],
      kubeletRoot: "/var/lib/k0s/kubelet",
      maxAgents: 7,
      syncSeconds: 60,
      agentPort: 9444,
      agent: {
        priorityClassName: "ts-thinstream-agent",
        selinuxType: "spc_t",
        tolerations: [{ key: "kvm", operator: "Exists" }],
        resources: { requests: { cpu: "500m" }, limits: { cpu: "2", memory: "768Mi" } },
      },
    });
    expect(the(objects, "PriorityClass")).toMatchObject({
      metadata: { name: "ts-thinstream-agent" },
      value: -10,
      preemptionPolicy: "Never",
    });
  });

  test("runs the controller as nobody, on a root that cannot be written to, and anew when its configuration changes", async () => {
    const { spec } = the(await render(), "Deployment") as Deployment;
    const [container] = spec.template.spec.containers;
    expect(spec.replicas).toBe(1);
    expect(spec.template.spec.securityContext).toMatchObject({
      runAsNonRoot: true,
      runAsUser: 65_532,
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
    expect(spec.selector.matchLabels["app.kubernetes.io/component"]).toBe("controller");
    const other = the(await render({ maxAgents: 7 }), "Deployment") as Deployment;
    const sums = [spec, other.spec].map(({ template }) => template.metadata.annotations["checksum/config"]);
    expect(new Set(sums).size).toBe(2);
  });

  test("has probes and a metrics Service unless they are not wanted", async () => {
    const without = await render({ endpoints: { enabled: false } });
    expect((the(without, "Deployment") as Deployment).spec.template.spec.containers[0].livenessProbe).toBeUndefined();
    expect(without.filter(({ kind }) => kind === "Service")).toEqual([]);
    const objects = await render(everything);
    const [container] = (the(objects, "Deployment") as Deployment).spec.template.spec.containers;
    expect(container).toMatchObject({
      ports: [{ name: "http", containerPort: 8080 }],
      livenessProbe: { httpGet: { path: "/healthz" } },
      readinessProbe: { httpGet: { path: "/readyz" } },
    });
    expect(the(objects, "ServiceMonitor")).toMatchObject({ spec: { endpoints: [{ port: "http", path: "/metrics" }] } });
    const rules = (the(objects, "PrometheusRule") as Rendered & { spec: { groups: { rules: object[] }[] } }).spec.groups;
    expect(rules[0]?.rules).toHaveLength(8);
    const dashboard = the(objects, "ConfigMap", "ts-thinstream-dashboard") as Rendered & { data: Record<string, string> };
    expect(JSON.parse(dashboard.data["thinstream.json"] ?? "")).toMatchObject({ title: "Thinstream" });
    expect(dashboard.metadata.labels["grafana_dashboard"]).toBe("1");
  });

  test("makes repositories and policies from values, which outlive the release unless that is not wanted", async () => {
    const objects = await render(everything);
    expect(the(objects, "BackupRepository")).toMatchObject({
      metadata: { name: "main", annotations: { "helm.sh/resource-policy": "keep" } },
      spec: repository,
    });
    expect(the(objects, "BackupPolicy")).toMatchObject({ metadata: { name: "nightly" }, spec: everything.policies.nightly });
    const passing = await render({ ...everything, keepResources: false });
    expect(the(passing, "BackupPolicy").metadata.annotations).toBeUndefined();
  });

  test("brings no rule with a wildcard but for the backup admin, and of Secrets outside its namespace only to get and to create", async () => {
    const roles = (await render()).filter(({ kind }) => kind === "ClusterRole") as unknown as readonly Role[];
    const wild = roles.filter(({ rules }) => rules.some((rule) => [rule.apiGroups, rule.resources, rule.verbs].flat().includes("*")));
    expect(wild.map(({ metadata }) => metadata.name)).toEqual(["backup:ts-thinstream-backup-admin"]);
    const secrets = roles.flatMap(({ rules }) => rules).filter(({ resources }) => resources.includes("secrets"));
    expect(secrets.map(({ verbs }) => verbs)).toEqual([["get", "create"]]);
  });

  test("brings the CRDs, and no Job for them where there is no cluster to look at", async () => {
    const objects = await render({}, "--include-crds");
    expect(objects.filter(({ kind }) => kind === "CustomResourceDefinition")).toHaveLength(5);
    expect(objects.filter(({ kind }) => kind === "Job")).toEqual([]);
  });

  test("has names that fit, however long the release's is", async () => {
    const objects = await render({
      fullnameOverride: "a".repeat(48),
      priorityClass: { create: true },
      dashboard: { enabled: true },
      endpoints: { enabled: true },
    });
    expect(objects.filter(({ kind, metadata }) => !kind.startsWith("ClusterRole") && metadata.name.length > 63)).toEqual([]);
    const policies = (await render({ networkPolicy: { enabled: true } })).filter(({ kind }) => kind === "NetworkPolicy");
    expect(policies).toHaveLength(2);
  });
});

describe.skipIf(skipWithout("cluster"))("values that are refused", () => {
  const policy = { repositoryRef: { name: "main" } };
  test.each<[string, object, RegExp]>([
    ["an unknown value", { replicas: 2 }, /additional properties 'replicas' not allowed/],
    ["an unknown value below another", { controller: { replica: 2 } }, /at '\/controller': additional properties 'replica' not allowed/],
    ["a number as text", { maxAgents: "many" }, /at '\/maxAgents': got string, want integer/],
    ["none at a time", { maxAgents: 0 }, /at '\/maxAgents': minimum: got 0, want 1/],
    ["a privileged port", { agent: { port: 443 } }, /at '\/agent\/port': minimum/],
    [
      "a quantity that is a number",
      { agent: { resources: { limits: { cpu: 2 } } } },
      /at '\/agent\/resources\/limits\/cpu': got number, want string/,
    ],
    ["a pull policy that is none", { image: { pullPolicy: "Sometimes" } }, /at '\/image\/pullPolicy': value must be one of/],
    ["a digest that is none", { image: { digest: "latest" } }, /at '\/image\/digest'.*does not match pattern/],
    ["a relative kubelet root", { kubeletRoot: "var/lib/kubelet" }, /at '\/kubeletRoot'.*does not match pattern/],
    [
      "a repository without a bucket",
      { repositories: { main: { s3: {}, encryption: {} } } },
      /at '\/repositories\/main\/s3': missing properties 'bucket'/,
    ],
    [
      "a repository with a password",
      { repositories: { main: { ...repository, password: "x" } } },
      /additional properties 'password' not allowed/,
    ],
    [
      "a policy without a repository",
      { policies: { nightly: { schedule: "@daily" } } },
      /at '\/policies\/nightly': missing property 'repositoryRef'/,
    ],
    [
      "a policy that is misspelt",
      { policies: { nightly: { ...policy, retention: { keepDayly: 7 } } } },
      /additional properties 'keepDayly' not allowed/,
    ],
    ["a name that is none", { policies: { Nightly_1: policy } }, /invalid propertyName 'Nightly_1'/],
    [
      "metrics that nobody serves",
      { endpoints: { enabled: false }, serviceMonitor: { enabled: true } },
      /serviceMonitor.enabled needs endpoints.enabled/,
    ],
    ["no image", { image: { repository: "" } }, /image.repository is empty: no image is published/],
  ])("%s", async (_, values, words) => {
    await expect(render(values)).rejects.toThrow(words);
  });
});
