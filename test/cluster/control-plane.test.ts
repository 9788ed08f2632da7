import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { skipWithout } from "../lab/index.ts";
import type { Identity } from "./index.ts";
import { ClusterError, ControlPlane, isWrite } from "./index.ts";

interface Named {
  readonly metadata: { readonly name: string; readonly resourceVersion: string };
}

const givenPrograms = (process.env["KUBEBUILDER_ASSETS"] ?? "") !== "";

/** The command lines of processes that name a directory. */
function processesOf(dir: string): string[] {
  return readdirSync("/proc").flatMap((entry) => {
    try {
      const line = /^\d+$/.test(entry) ? readFileSync(`/proc/${entry}/cmdline`, "utf8") : "";
      return line.includes(dir) ? [line.replaceAll("\0", " ")] : [];
    } catch {
      return []; // it ended while we looked
    }
  });
}

async function eventually<T>(look: () => Promise<T> | T, good: (found: T) => boolean): Promise<T> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = await look();
    if (good(found) || Date.now() > deadline) return found;
    await sleep(100);
  }
}

describe.skipIf(skipWithout("cluster"))("the control plane", () => {
  let plane: ControlPlane;
  let admin: Identity;
  let version: string;
  beforeAll(async () => {
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    admin = plane.admin;
    const { serverVersion } = JSON.parse(await admin.kubectl(["version", "-o", "json"])) as { serverVersion: { gitVersion: string } };
    version = serverVersion.gitVersion;
  });
  afterAll(async () => await plane.stop());

  const reasonOf = async (work: Promise<unknown>): Promise<string> =>
    await work.then(
      () => "",
      (cause: unknown) => (cause as ClusterError).reason,
    );

  test.skipIf(givenPrograms)("is the Kubernetes that go.mod pins, and says so", async () => {
    expect(version).toBe(/\tk8s\.io\/kubernetes (v\S+)/.exec(readFileSync(join(import.meta.dirname, "go.mod"), "utf8"))?.[1]);
    const { clientVersion } = JSON.parse(await admin.kubectl(["version", "--client", "-o", "json"])) as { clientVersion: object };
    expect(clientVersion).toMatchObject({ gitVersion: version, major: "1", minor: version.split(".")[1] });
  });

  test("lets a service account do what its roles say, and writes down what it did", async () => {
    await admin.kubectl(["create", "serviceaccount", "modest"]);
    const modest = await plane.serviceAccount("default", "modest");
    expect(await reasonOf(modest.get("secrets"))).toBe("Forbidden");
    await admin.kubectl(["create", "role", "maps", "--verb=create,get", "--resource=configmaps"]);
    await admin.kubectl(["create", "rolebinding", "maps", "--role=maps", "--serviceaccount=default:modest"]);
    await modest.kubectl(["create", "configmap", "mine"]);
    expect(await reasonOf(modest.kubectl(["delete", "configmap", "mine"]))).toBe("Forbidden");

    const mine = await eventually(
      () => plane.requests().filter(({ user, resource }) => user === "system:serviceaccount:default:modest" && resource !== ""),
      (found) => found.length >= 3,
    );
    const told = mine.map(({ verb, resource, code }) => `${verb} ${resource} ${code}`);
    expect(told).toEqual(["list secrets 403", "create configmaps 201", "delete configmaps 403"]);
    expect(mine.filter((request) => isWrite(request))).toHaveLength(2);
  });

  test("has controllers that make a Job's pod, and a scheduler that finds no node for it", async () => {
    await admin.kubectl(["create", "job", "lonely", "--image=example.invalid/none", "--", "true"]);
    const pods = await eventually(
      () => admin.get<{ items: (Named & { status?: { conditions?: object[] } })[] }>("pods", "-l", "job-name=lonely"),
      ({ items }) => items[0]?.status?.conditions !== undefined,
    );
    expect(pods.items[0]?.status?.conditions).toMatchObject([{ type: "PodScheduled", status: "False", reason: "Unschedulable" }]);
  });

  test("keeps what it has when the API server dies and comes back", async () => {
    await admin.kubectl(["create", "configmap", "kept", "--from-literal=a=b"]);
    await plane.stopApiServer();
    await expect(admin.get("configmap", "kept")).rejects.toThrow(ClusterError);
    await plane.startApiServer();
    expect(await admin.get("configmap", "kept")).toMatchObject({ data: { a: "b" } });
    await expect(plane.startApiServer()).rejects.toThrow("kube-apiserver runs already");
  });

  test("says in the server's own words why it does not start", async () => {
    await plane.stopApiServer();
    const squatter = createServer((socket) => socket.destroy()).listen(plane.layout.ports.api, "127.0.0.1");
    await once(squatter, "listening");
    await expect(plane.startApiServer()).rejects.toThrow(/kube-apiserver did not start: .*address already in use/s);
    squatter.close();
    await once(squatter, "close");
    await plane.startApiServer();
  });

  test("answers 410 to who goes on from a version that it has forgotten", async () => {
    await admin.kubectl(["create", "configmap", "last"]);
    const seen = (await admin.get<Named>("configmap", "last")).metadata.resourceVersion;
    const from = (query: string): Promise<string> => admin.kubectl(["get", "--raw", `/api/v1/configmaps?resourceVersion=${seen}&${query}`]);
    expect(await from("watch=1&timeoutSeconds=1")).toBe("");
    await plane.forgetHistory();
    const event = JSON.parse(await from("watch=1&timeoutSeconds=10")) as object;
    expect(event).toMatchObject({ type: "ERROR", object: { code: 410, reason: "Expired" } });
    expect(await reasonOf(from("resourceVersionMatch=Exact"))).toBe("Expired");
    expect(await admin.get("configmap", "last")).toMatchObject({ metadata: { resourceVersion: seen } });
  });

  test("takes a chart that helm finds fit for its version", async () => {
    const chart = join(plane.dir, "chart");
    mkdirSync(join(chart, "templates"), { recursive: true });
    const write = (kubeVersion: string): void => {
      writeFileSync(join(chart, "Chart.yaml"), JSON.stringify({ apiVersion: "v2", name: "tiny", version: "0.0.1", kubeVersion }));
    };
    const map = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "{{ .Release.Name }}" } };
    writeFileSync(join(chart, "templates/map.yaml"), JSON.stringify(map));
    write(`>= ${version}`);
    await admin.helm(["install", "first", chart]);
    expect(await admin.get("configmap", "first")).toMatchObject({ metadata: { labels: { "app.kubernetes.io/managed-by": "Helm" } } });
    write(`> ${version}`);
    await expect(admin.helm(["install", "second", chart])).rejects.toThrow(/requires kubeVersion/);
  });
});

describe.skipIf(skipWithout("cluster"))("a control plane's processes", () => {
  test("are gone when it is stopped", async () => {
    const plane = await ControlPlane.start();
    expect(processesOf(plane.dir).join("\n")).toMatch(/etcd [^]*kube-apiserver /);
    await plane.stop();
    await plane.stop();
    expect(processesOf(plane.dir)).toEqual([]);
  });

  test("are gone when the process that started it is killed", async () => {
    const door = JSON.stringify(join(import.meta.dirname, "index.ts"));
    const script = `const { ControlPlane } = await import(${door}); console.log((await ControlPlane.start()).dir); setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    const [dir] = (await once(owner.stdout, "data")) as [Buffer];
    const ofIt = (): string[] => processesOf(dir.toString().trim());
    expect(ofIt().length).toBeGreaterThanOrEqual(2);
    owner.kill("SIGKILL");
    expect(await eventually(ofIt, (left) => left.length === 0)).toEqual([]);
  });
});
