import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KubeClient } from "../../src/kube/index.ts";
import { connectKube, isKubeError } from "../../src/kube/index.ts";
import type { ControlPlane } from "../cluster/index.ts";
import { run, skipWithout, tempDir } from "../lab/index.ts";
import { eventually, failureOf, namespaces, startWorld } from "./world.ts";

const look = async (client: KubeClient): Promise<string> => (await client.get(namespaces, { name: "default" })).metadata.name;

const isRefused = (client: KubeClient): Promise<boolean> =>
  look(client).then(
    () => false,
    (thrown: unknown) => isKubeError(thrown, "unauthorized"),
  );

describe.skipIf(skipWithout("cluster"))("credentials", () => {
  let plane: ControlPlane;
  beforeAll(async () => {
    const world = await startWorld();
    plane = world.plane;
    world.client.close();
  });
  afterAll(async () => await plane.stop());

  async function account(name: string): Promise<void> {
    await plane.admin.kubectl(["create", "serviceaccount", name]);
    await plane.admin.kubectl(["create", "clusterrolebinding", name, "--clusterrole=cluster-admin", `--serviceaccount=default:${name}`]);
  }
  const tokenOf = (name: string): Promise<string> => plane.admin.kubectl(["create", "token", name]);
  /** What the old tokens of an account were given to is gone; its new ones are another's. */
  async function revoke(name: string): Promise<void> {
    await plane.admin.kubectl(["delete", "serviceaccount", name]);
    await plane.admin.kubectl(["create", "serviceaccount", name]);
  }
  const cluster = (): object => ({ server: plane.server, "certificate-authority": plane.layout.ca.cert });
  function kubeconfig(name: string, user: object, of: object = cluster()): string {
    const file = join(plane.dir, `${name}.config`);
    const context = { name: "c", context: { cluster: "c", user: "u", namespace: "mine" } };
    const config = {
      apiVersion: "v1",
      kind: "Config",
      "current-context": "c",
      clusters: [{ name: "c", cluster: of }],
      users: [{ name: "u", user }],
      contexts: [context],
    };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    return file;
  }

  test("of a pod: its service account, whose token may be rotated and revoked", async () => {
    const dir = join(plane.dir, "account");
    mkdirSync(dir);
    copyFileSync(plane.layout.ca.cert, join(dir, "ca.crt"));
    writeFileSync(join(dir, "namespace"), "operators\n");
    await account("pod");
    writeFileSync(join(dir, "token"), await tokenOf("pod"));
    const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(plane.layout.ports.api) };
    const pod = await connectKube({ inCluster: { dir, env } });
    expect([pod.namespace, await look(pod)]).toEqual(["operators", "default"]);
    await revoke("pod");
    // The API server remembers for some seconds whom it knows.
    await eventually(() => isRefused(pod));
    expect(await failureOf(look(pod))).toMatchObject({ code: "unauthorized", hint: expect.stringContaining("renew") as string });
    writeFileSync(join(dir, "token"), await tokenOf("pod"));
    expect(await look(pod)).toBe("default");
    pod.close();
  });

  test("of a kubeconfig: certificates, tokens, and plugins that are asked again when the server refuses", async () => {
    const admin = await connectKube({ kubeconfig: plane.admin.kubeconfig });
    expect(await look(admin)).toBe("default");
    admin.close();

    await account("plugged");
    const answer = join(plane.dir, "plugin.json");
    const give = async (): Promise<void> => {
      const status = { token: await tokenOf("plugged") };
      writeFileSync(answer, JSON.stringify({ apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status }));
    };
    await give();
    const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "cat", args: [answer], interactiveMode: "Never" };
    const plugged = await connectKube({ kubeconfig: kubeconfig("exec", { exec }) });
    expect([plugged.namespace, await look(plugged)]).toEqual(["mine", "default"]);
    const { token } = (JSON.parse(readFileSync(answer, "utf8")) as { status: { token: string } }).status;
    const old = await connectKube({ kubeconfig: kubeconfig("old", { token }) });
    await revoke("plugged");
    await give();
    await eventually(() => isRefused(old));
    // The plugin's first token is as dead as this one, and by its own word still good.
    expect(await look(plugged)).toBe("default");
    for (const client of [plugged, old]) client.close();
  });

  test("that make no sense are said to, and by whom", async () => {
    const missing = await failureOf(connectKube({ kubeconfig: "/nowhere/config" }));
    expect(missing).toMatchObject({ code: "not-configured", message: expect.stringContaining("/nowhere/config") as string });
    const context = await failureOf(connectKube({ kubeconfig: plane.admin.kubeconfig, context: "mars" }));
    expect(context).toMatchObject({ code: "not-configured", message: expect.stringContaining('"mars"') as string });
    const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "/nowhere/plugin", interactiveMode: "Never" };
    const broken = await connectKube({ kubeconfig: kubeconfig("broken", { exec }) });
    expect(await failureOf(look(broken))).toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining("/nowhere/plugin") as string,
    });
    const outside = await failureOf(connectKube({ inCluster: { dir: plane.dir, env: {} } }));
    expect(outside).toMatchObject({ code: "not-configured", message: expect.stringContaining("KUBERNETES_SERVICE_HOST") as string });
  });

  test("do not go to a server that shows another authority's certificate", async () => {
    const stranger = await plane.authority.issue("stranger", { subject: "/CN=stranger" });
    const user = { token: "secret" };
    const wary = await connectKube({
      kubeconfig: kubeconfig("wary", user, { server: plane.server, "certificate-authority": stranger.cert }),
    });
    const failure = await failureOf(look(wary));
    expect(failure).toMatchObject({ code: "unavailable", hint: expect.stringContaining("authority") as string });
    wary.close();
  });

  test("of a pod need no client library, and the door itself loads none", async () => {
    const script = `
      const before = performance.now();
      const { connectKube } = await import(${JSON.stringify(join(import.meta.dirname, "../../src/kube/index.ts"))});
      const door = performance.now() - before;
      const resident = () => process.memoryUsage().rss / 2 ** 20;
      const [atDoor, since] = [resident(), performance.now()];
      await connectKube({ kubeconfig: process.argv[1] });
      console.log(JSON.stringify({ doorMs: door, loadMs: performance.now() - since, loadMiB: resident() - atDoor }));`;
    const cwd = tempDir("load");
    const figures = JSON.parse(
      await run(process.execPath, ["--input-type=module", "-e", script, plane.admin.kubeconfig], { cwd }),
    ) as Record<string, number>;
    console.info(
      `src/kube loads in ${figures["doorMs"]?.toFixed(0)} ms; a kubeconfig costs ${figures["loadMs"]?.toFixed(0)} ms and ${figures["loadMiB"]?.toFixed(0)} MiB more`,
    );
    const sources = ["index", "connect", "kubeconfig", "client"].map((name) =>
      readFileSync(join(import.meta.dirname, `../../src/kube/${name}.ts`), "utf8"),
    );
    expect(sources.join("\n")).not.toMatch(/^import (?!type).*client-node/m);
    expect(figures["doorMs"]).toBeLessThan(figures["loadMs"] ?? 0);
  });
});
