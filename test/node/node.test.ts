import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Identity } from "../cluster/index.ts";
import { ControlPlane } from "../cluster/index.ts";
import { run, skipWithout } from "../lab/index.ts";
import { NodeSimulator, projectImage } from "./index.ts";
import { eventually, isOver, podWhen, runs, scriptPod, stateOf } from "./world.ts";

describe.skipIf(skipWithout("cluster", "host"))("a simulated node", () => {
  let plane: ControlPlane;
  let admin: Identity;
  let nodes: NodeSimulator;
  beforeAll(async () => {
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    admin = plane.admin;
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a", "node-b"] });
    await eventually(
      () => admin.get("serviceaccount", "default").catch(() => undefined),
      (found) => found !== undefined,
    );
  });
  afterAll(async () => {
    await nodes?.stop();
    await plane?.stop();
  });

  test("runs a pod where the scheduler binds it, with its environment, files and words at the end", async () => {
    await admin.apply([
      { apiVersion: "v1", kind: "Secret", metadata: { name: "keys", namespace: "default" }, stringData: { key: "hush", other: "no" } },
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "settings", namespace: "default" }, data: { colour: "red" } },
    ]);
    const volumes = [
      { name: "keys", secret: { secretName: "keys", items: [{ key: "key", path: "deep/k" }], defaultMode: 0o400 } },
      { name: "settings", configMap: { name: "settings" } },
      { name: "about", downwardAPI: { items: [{ path: "labels", fieldRef: { fieldPath: "metadata.labels" } }] } },
      { name: "scratch", emptyDir: {} },
    ];
    const container = {
      env: [
        { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
        { name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
        { name: "KEY", valueFrom: { secretKeyRef: { name: "keys", key: "key" } } },
        { name: "BOTH", value: "$(NODE) $(KEY) $(NOBODY) $$(KEY)" },
      ],
      envFrom: [{ prefix: "SET_", configMapRef: { name: "settings" } }],
      args: ["unused", "$(NODE)"],
      workingDir: "/volume",
      volumeMounts: [
        { name: "keys", mountPath: "/keys", readOnly: true },
        { name: "settings", mountPath: "/settings" },
        { name: "about", mountPath: "/about" },
        { name: "scratch", mountPath: "/volume" },
      ],
    };
    const script = [
      'echo "$POD_IP|$NODE|$BOTH|$SET_colour|$1|$(hostname)|$(pwd)"',
      "cat /keys/deep/k; echo; stat -c %a /keys/deep/k; ls /keys; cat /settings/colour; echo; cat /about/labels; echo; id -u",
      "echo x >/volume/file && echo x >/keys/new || echo read-only",
      "printf said >/dev/termination-log; exit 3",
    ];
    const pod = scriptPod("first", script.join("\n"), {
      container,
      spec: { volumes, nodeSelector: { "kubernetes.io/hostname": "node-b" } },
    });
    await admin.apply([pod]);
    const seen = await podWhen(admin, "first", isOver);
    expect([seen.spec.nodeName, seen.status.phase]).toEqual(["node-b", "Failed"]);
    expect(stateOf(seen).terminated).toMatchObject({ exitCode: 3, reason: "Error", message: "said" });
    const { podIP } = seen.status;
    const lines = nodes.log(seen).split("\n");
    expect(lines[0]).toBe(`${podIP}|node-b|node-b hush $(NOBODY) $(KEY)|red|node-b|first|/volume`);
    expect(lines.slice(1, 4)).toEqual(["hush", "400", "deep"]);
    expect(lines.slice(4)).toEqual(["red", "", "0", expect.stringMatching(/Read-only file system/), "read-only", ""]);
    await admin.kubectl(["delete", "pod", "first"]);
    expect(nodes.log(seen)).toContain("hush");
  });

  test("runs the project's image: this checkout's thinstream", async () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")) as { version: string };
    const { command: _, ...container } = { command: [], image: "registry.invalid/thinstream:1", args: ["--version"] };
    const pod = scriptPod("ours", "", { container: { ...container, securityContext: { readOnlyRootFilesystem: true, runAsUser: 65532 } } });
    delete (pod as { spec: { containers: { command?: unknown }[] } }).spec.containers[0]?.command;
    await admin.apply([pod]);
    const seen = await podWhen(admin, "ours", isOver);
    expect([stateOf(seen).terminated?.reason, nodes.log(seen).trim()]).toEqual(["Completed", version]);
  });

  test("gives a container the rights that its spec says, and no more", async () => {
    const look =
      "id -u; id -G; grep CapEff /proc/self/status; touch /new && echo wrote; touch /own/new && echo own; ls /dev | grep -c loop; ps ax | wc -l";
    const own = { spec: { volumes: [{ name: "own", emptyDir: {} }] }, volumeMounts: [{ name: "own", mountPath: "/own" }] };
    const seen = async (name: string, securityContext: object, spec: object = {}): Promise<string> => {
      await admin.apply([
        scriptPod(name, look, { container: { volumeMounts: own.volumeMounts, securityContext }, spec: { ...own.spec, ...spec } }),
      ]);
      const pod = await podWhen(admin, name, isOver);
      return nodes.log(pod).replaceAll(/\s+/g, " ");
    };
    const modest = { readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"], add: ["DAC_OVERRIDE"] } };
    expect(await seen("modest", modest)).toMatch(/^0 0 CapEff: 0000000000000002 touch: .*Read-only file system own 0 4 $/);
    const user = { runAsUser: 107, runAsGroup: 107 };
    expect(await seen("user", user, { securityContext: { fsGroup: 107 } })).toMatch(
      /^107 107 CapEff: 0000000000000000 touch: .*denied own 0 4 $/,
    );
    expect(await seen("mighty", { privileged: true })).toMatch(/^0 0 CapEff: 000001\w+ wrote own [1-9]/);
  });

  test("deletes gracefully: SIGTERM first, SIGKILL when the time is over", async () => {
    const polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    await admin.apply([scriptPod("polite", polite), scriptPod("stubborn", "trap '' TERM; while :; do sleep 0.1; done")]);
    const pods = await Promise.all(["polite", "stubborn"].map((name) => podWhen(admin, name, runs)));
    await eventually(
      () => nodes.log(pods[0]!),
      (log) => log.includes("up"),
    );
    const started = Date.now();
    await admin.kubectl(["delete", "pod", "polite"]);
    expect(Date.now() - started).toBeLessThan(10_000);
    expect(nodes.log(pods[0]!)).toBe("up\nbye\n");
    const before = Date.now();
    await admin.kubectl(["delete", "pod", "stubborn", "--grace-period=2"]);
    expect(Date.now() - before).toBeGreaterThan(1900);
    expect(() => nodes.pid(pods[1]!)).toThrow(/no node here has|does not run/);
  });

  test("waits for an image, a key, a claim and a path, says which, and goes on when they are there", async () => {
    const wants = {
      image: scriptPod("image", "true", { container: { image: "missing/one" } }),
      key: scriptPod("key", "true", { container: { env: [{ name: "A", valueFrom: { secretKeyRef: { name: "late", key: "a" } } }] } }),
      path: scriptPod("path", "true", {
        spec: { volumes: [{ name: "h", hostPath: { path: "/var/lib/kubelet/late", type: "Directory" } }] },
      }),
    };
    await admin.apply(Object.values(wants));
    const waiting = async (name: string, reason: string): Promise<string> => {
      const pod = await podWhen(
        admin,
        name,
        (one) => stateOf(one).waiting?.reason === reason && stateOf(one).waiting?.message !== undefined,
      );
      return `${pod.status.phase} ${stateOf(pod).waiting?.reason}: ${stateOf(pod).waiting?.message}`;
    };
    expect(await waiting("image", "ImagePullBackOff")).toMatch(/^Pending ImagePullBackOff: Back-off pulling image "missing\/one"/);
    expect(await waiting("key", "CreateContainerConfigError")).toMatch(/secret "late" not found/);
    expect(await waiting("path", "ContainerCreating")).toMatch(/hostPath type check failed: \/var\/lib\/kubelet\/late is not a Directory/);
    const events = await admin.get<{ items: { reason: string }[] }>("events", "--field-selector=involvedObject.name=path");
    expect(events.items.map(({ reason }) => reason)).toContain("FailedMount");
    nodes.image("missing/one", projectImage);
    await admin.kubectl(["create", "secret", "generic", "late", "--from-literal=a=b"]);
    for (const node of ["node-a", "node-b"]) await run("mkdir", ["-p", join(nodes.host(node).kubelet, "late")]);
    for (const name of Object.keys(wants)) expect((await podWhen(admin, name, isOver)).status.phase).toBe("Succeeded");
  });

  test("ends a pod as a node does: evicted, out of memory, out of time; and falls back to the log for its last words", async () => {
    const forever = "echo some words; sleep 1000";
    const container = { terminationMessagePolicy: "FallbackToLogsOnError" } as const;
    await admin.apply([
      scriptPod("evicted", forever),
      scriptPod("hungry", forever, { container }),
      scriptPod("late", forever, { spec: { activeDeadlineSeconds: 2 } }),
    ]);
    const [evicted, hungry] = await Promise.all(["evicted", "hungry"].map((name) => podWhen(admin, name, runs)));
    await eventually(
      () => nodes.log(hungry!),
      (log) => log.includes("words"),
    );
    nodes.evict(evicted!);
    nodes.oomKill(hungry!);
    const ended = await podWhen(admin, "evicted", isOver);
    expect(ended.status).toMatchObject({ phase: "Failed", reason: "Evicted" });
    expect(ended.status.conditions).toContainEqual(
      expect.objectContaining({ type: "DisruptionTarget", status: "True", reason: "TerminationByKubelet" }),
    );
    expect(stateOf(await podWhen(admin, "hungry", isOver)).terminated).toMatchObject({
      exitCode: 137,
      reason: "OOMKilled",
      message: "some words\n",
    });
    expect((await podWhen(admin, "late", isOver)).status).toMatchObject({ phase: "Failed", reason: "DeadlineExceeded" });
  });

  test("restarts what shall run always, and calls it ready when its probe passes; its service account works", async () => {
    const { image: __, ...script } = {
      image: "",
      js: "const http=require('node:http');const fs=require('node:fs');http.createServer((q,r)=>{r.statusCode=fs.existsSync('/volume/ready')?200:503;r.end()}).listen(8080,process.env.POD_IP)",
    };
    const directory = "/var/run/secrets/kubernetes.io/serviceaccount";
    const ask = `node -e "fetch('https://'+process.env.KUBERNETES_SERVICE_HOST+':'+process.env.KUBERNETES_SERVICE_PORT+'/apis',{headers:{authorization:'Bearer '+require('node:fs').readFileSync('${directory}/token','utf8')}}).then(r=>console.log(r.status))"`;
    const container = {
      name: "main",
      image: "thinstream:1",
      command: ["sh", "-c", `NODE_EXTRA_CA_CERTS=${directory}/ca.crt ${ask}; node -e "${script.js}"`],
      env: [{ name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
      volumeMounts: [{ name: "work", mountPath: "/volume" }],
      ports: [{ name: "http", containerPort: 8080 }],
      readinessProbe: { httpGet: { path: "/", port: "http" } },
    };
    const template = {
      metadata: { labels: { app: "web" } },
      spec: { terminationGracePeriodSeconds: 1, containers: [container], volumes: [{ name: "work", emptyDir: {} }] },
    };
    await admin.apply([
      {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "web", namespace: "default" },
        spec: { selector: { matchLabels: { app: "web" } }, template },
      },
    ]);
    const found = await eventually(
      () => admin.get<{ items: { metadata: { name: string } }[] }>("pods", "-l", "app=web"),
      ({ items }) => items.length > 0,
    );
    const name = found.items[0]?.metadata.name ?? "";
    const pod = await podWhen(admin, name, runs);
    await eventually(
      () => nodes.log(pod),
      (log) => log !== "",
    );
    expect(nodes.log(pod)).toBe("200\n");
    expect(pod.status.containerStatuses?.[0]?.ready).toBe(false);
    await nodes.exec(pod, ["touch", "/volume/ready"]);
    await admin.kubectl(["wait", "--for=condition=Available", "deployment/web", "--timeout=30s"]);
    process.kill(nodes.pid(pod), "SIGKILL");
    const again = await podWhen(
      admin,
      name,
      (one) => one.status.containerStatuses?.[0]?.restartCount === 1 && one.status.containerStatuses[0].ready,
    );
    expect(again.status.containerStatuses?.[0]).toMatchObject({ restartCount: 1, ready: true });
    await admin.kubectl(["delete", "deployment", "web"]);
  });

  test("binds claims of either mode, puts them where a kubelet puts them, and another pod reaches them there", async () => {
    const claim = (name: string, volumeMode: string): object => ({
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name, namespace: "default" },
      spec: { accessModes: ["ReadWriteOnce"], volumeMode, resources: { requests: { storage: "64Mi" } } },
    });
    const volumes = ["files", "block"].map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } }));
    const script = "echo kept >/files/f; printf block | dd of=/dev/block conv=notrunc 2>/dev/null; sync; echo up; exec sleep 1000";
    const container = {
      volumeMounts: [{ name: "files", mountPath: "/files" }],
      volumeDevices: [{ name: "block", devicePath: "/dev/block" }],
    };
    await admin.apply([
      claim("files", "Filesystem"),
      claim("block", "Block"),
      scriptPod("holder", script, { container, spec: { volumes, nodeName: undefined } }),
    ]);
    const holder = await podWhen(admin, "holder", runs);
    await eventually(
      () => nodes.log(holder),
      (log) => log.includes("up"),
    );
    const volumeOf = async (name: string): Promise<string> =>
      (await admin.get<{ spec: { volumeName: string } }>("pvc", name)).spec.volumeName;
    const [files, block] = [await volumeOf("files"), await volumeOf("block")];
    const base = `/var/lib/kubelet/pods/${holder.metadata.uid}`;
    const reader = scriptPod("reader", "cat /v/files/f; head -c5 /v/block; blockdev --getsize64 /v/block; echo changed >/v/files/f", {
      container: { volumeMounts: [{ name: "files", mountPath: "/v/files" }, { name: "block", mountPath: "/v/block" }] }, // prettier-ignore
      spec: {
        nodeName: holder.spec.nodeName,
        volumes: [
          { name: "files", hostPath: { path: `${base}/volumes/kubernetes.io~local-volume/${files}`, type: "Directory" } },
          { name: "block", hostPath: { path: `${base}/volumeDevices/kubernetes.io~local-volume/${block}`, type: "BlockDevice" } },
        ],
      },
    });
    await admin.apply([reader]);
    const read = await podWhen(admin, "reader", isOver);
    expect([read.status.phase, nodes.log(read)]).toEqual(["Succeeded", `kept\nblock${64 << 20}\n`]);
    expect(await nodes.exec(holder, ["cat", "/files/f"])).toBe("changed\n");
    expect(readFileSync(join(nodes.volumes.pathOf(files), "f"), "utf8")).toBe("changed\n");
    await admin.kubectl(["delete", "pod", "holder", "--grace-period=1"]);
    await admin.kubectl(["delete", "pvc", "files", "block"]);
    const left = await eventually(
      () => admin.get<{ items: object[] }>("pv"),
      ({ items }) => items.length === 0,
    );
    expect(left.items).toEqual([]);
    expect(await run("losetup", ["-j", nodes.volumes.pathOf(block)])).toBe("");
  });

  test("has places of its own for the node's paths", async () => {
    writeFileSync(join(nodes.dir, "here"), "here");
    nodes.host("node-a").place("/var/run/libvirt", nodes.dir);
    const spec = { nodeName: "node-a", volumes: [{ name: "run", hostPath: { path: "/var/run/libvirt" } }] };
    await admin.apply([
      scriptPod("placed", "cat /var/run/libvirt/here", {
        spec,
        container: { volumeMounts: [{ name: "run", mountPath: "/var/run/libvirt" }] },
      }),
    ]);
    const pod = await podWhen(admin, "placed", isOver);
    expect(nodes.log(pod)).toBe("here");
    rmSync(join(nodes.dir, "here"));
  });

  test("goes on through an outage of the API server, and tells afterwards what happened meanwhile", async () => {
    await admin.apply([
      scriptPod("through", "echo up; while [ ! -e /go/on ]; do sleep 0.1; done; exit 4", {
        spec: { volumes: [{ name: "go", emptyDir: {} }] },
        container: { volumeMounts: [{ name: "go", mountPath: "/go" }] },
      }),
    ]);
    const pod = await podWhen(admin, "through", runs);
    await plane.stopApiServer();
    await nodes.exec(pod, ["touch", "/go/on"]);
    await sleep(1000);
    await plane.startApiServer();
    expect(stateOf(await podWhen(admin, "through", isOver)).terminated).toMatchObject({ exitCode: 4 });
  });

  test("may vanish: its processes are gone at once, the cluster notices, and a new one takes its place", async () => {
    const spec = {
      nodeName: "node-b",
      tolerations: [{ key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute", tolerationSeconds: 1 }],
    };
    await admin.apply([scriptPod("lost", "exec sleep 1000", { spec })]);
    const pod = await podWhen(admin, "lost", runs);
    const pid = nodes.pid(pod);
    await nodes.nodeGone("node-b");
    expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
    const ready = await eventually(
      () => admin.kubectl(["get", "node", "node-b", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}']),
      (status) => status !== "True",
    );
    expect(ready).toBe("Unknown");
    const going = await podWhen(admin, "lost", ({ metadata }) => metadata.deletionTimestamp !== undefined);
    expect(going.metadata.deletionTimestamp).toBeDefined();
    await admin.kubectl(["delete", "pod", "lost", "--force", "--grace-period=0"]);
    await nodes.removeNode("node-b");
    await nodes.addNode("node-b");
    await admin.apply([scriptPod("anew", "true", { spec: { nodeName: "node-b" } })]);
    expect((await podWhen(admin, "anew", isOver)).status.phase).toBe("Succeeded");
  });
});

describe.skipIf(skipWithout("cluster", "host"))("a simulated node's processes, mounts and devices", () => {
  test("are gone when the process that started it is killed", async () => {
    const script = `
      const { ControlPlane } = await import(${JSON.stringify(join(import.meta.dirname, "../cluster/index.ts"))});
      const { NodeSimulator } = await import(${JSON.stringify(join(import.meta.dirname, "index.ts"))});
      const { podWhen, runs, scriptPod } = await import(${JSON.stringify(join(import.meta.dirname, "world.ts"))});
      const plane = await ControlPlane.start({ controllers: true, scheduler: true });
      const nodes = await NodeSimulator.start(plane);
      const spec = { accessModes: ["ReadWriteOnce"], volumeMode: "Block", resources: { requests: { storage: "64Mi" } } };
      const volumes = [{ name: "b", persistentVolumeClaim: { claimName: "b" } }];
      const container = { volumeDevices: [{ name: "b", devicePath: "/dev/b" }] };
      await plane.admin.apply([
        { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "b", namespace: "default" }, spec },
        scriptPod("left", "exec sleep 1000 9<>/dev/b", { container, spec: { volumes } }),
      ]);
      console.log(nodes.pid(await podWhen(plane.admin, "left", runs)), nodes.dir);
      setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    const [said] = (await once(owner.stdout, "data")) as [Buffer];
    const [pid = "", dir = ""] = said.toString().trim().split(" ");
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    expect(await run("losetup", ["-a"])).toContain(dir);
    owner.kill("SIGKILL");
    expect(await eventually(() => existsSync(`/proc/${pid}`), (is) => !is)).toBe(false); // prettier-ignore
    expect(await eventually(() => run("losetup", ["-a"]), (list) => !list.includes(dir))).not.toContain(dir); // prettier-ignore
    expect(readFileSync("/proc/mounts", "utf8")).not.toContain(dir);
  });
});
