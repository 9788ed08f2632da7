import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { InformerOptions, KubeClient } from "../../src/kube/index.ts";
import { Informer, connectKube, keyOf } from "../../src/kube/index.ts";
import type { LogFields, Logger } from "../../src/lib/logger.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { startSilentProxy } from "./silent-proxy.ts";
import type { Widget } from "./world.ts";
import { eventually, makeNamespace, startWorld, widget, widgets } from "./world.ts";

/** A logger that only notes what is warned of. */
function noting(failures: string[]): Logger {
  const warn = (_: LogFields, message: string): void => void failures.push(message);
  return { ...silentLogger, warn, child: () => noting(failures) };
}

describe.skipIf(skipWithout("cluster"))("an informer", () => {
  let plane: ControlPlane;
  let client: KubeClient;
  let aborter = new AbortController();
  const running: Promise<void>[] = [];

  beforeAll(async () => {
    ({ plane, client } = await startWorld());
  });
  afterEach(async () => {
    aborter.abort();
    await Promise.all(running.splice(0));
    aborter = new AbortController();
  });
  afterAll(async () => {
    client.close();
    await plane.stop();
  });

  /** An informer of a namespace that runs, and the story of what it told. */
  function start(
    namespace: string,
    options: InformerOptions<Widget> = {},
    through: KubeClient = client,
  ): { informer: Informer<Widget>; told: string[] } {
    const informer = new Informer(through, widgets, { namespace, maxBackoffMs: 1000, ...options });
    const told: string[] = [];
    informer.subscribe({
      added: ({ metadata, spec }) => told.push(`+${metadata.name}=${spec.size}`),
      updated: (before, { metadata, spec }) => told.push(`${metadata.name}:${before.spec.size}->${spec.size}`),
      deleted: ({ metadata, spec }) => told.push(`-${metadata.name}=${spec.size}`),
    });
    running.push(informer.run(aborter.signal));
    return { informer, told };
  }

  const resize = async (namespace: string, name: string, size: number): Promise<void> => {
    await client.patch(widgets, { namespace, name }, { spec: { size } });
  };

  test("knows what is there, page by page, and tells what changes with before and after", async () => {
    const namespace = await makeNamespace(client, "story");
    for (const name of ["a", "b", "c"]) await client.create(widgets, widget(name, 1, namespace));
    const { informer, told } = start(namespace, { pageSize: 2 });
    expect(informer.hasSynced).toBe(false);
    await informer.synced;
    expect(told).toEqual(["+a=1", "+b=1", "+c=1"]);
    await resize(namespace, "a", 2);
    await client.delete(widgets, { namespace, name: "b" });
    await client.create(widgets, widget("d", 4, namespace));
    await eventually(() => told.length === 6);
    expect(told.slice(3)).toEqual(["a:1->2", "-b=1", "+d=4"]);
    expect([...informer.lister.list()].map(keyOf).toSorted()).toEqual(["story/a", "story/c", "story/d"]);
    expect(informer.lister.get("story/a")?.metadata).not.toHaveProperty("managedFields");

    const late: string[] = [];
    informer.subscribe({ added: ({ metadata }) => late.push(metadata.name) });
    expect(late.toSorted()).toEqual(["a", "c", "d"]);
  });

  test("finds by index, selects by label, and keeps what the transform leaves", async () => {
    const namespace = await makeNamespace(client, "indexed");
    for (const [name, size] of Object.entries({ a: 1, b: 2, c: 2 })) {
      await client.create(widgets, { ...widget(name, size, namespace), metadata: { name, namespace, labels: { keep: "yes" } } });
    }
    await client.create(widgets, widget("other", 2, namespace));
    const transform = ({
      apiVersion,
      kind,
      metadata: { name, namespace: of = "", uid = "", resourceVersion = "" },
      spec,
    }: Widget): Widget => {
      return { apiVersion, kind, metadata: { name, namespace: of, uid, resourceVersion }, spec: { size: spec.size } };
    };
    const indices = { size: ({ spec }: Widget) => [String(spec.size)] };
    const { informer, told } = start(namespace, { indices, transform, labelSelector: "keep=yes" });
    await informer.synced;
    const sized = (size: number): string[] => informer.lister.byIndex("size", String(size)).map(({ metadata }) => metadata.name);
    expect(sized(2)).toEqual(["b", "c"]);
    expect(Object.keys(informer.lister.get("indexed/a")?.metadata ?? {})).toEqual(["name", "namespace", "uid", "resourceVersion"]);
    await resize(namespace, "b", 1);
    await client.patch(widgets, { namespace, name: "c" }, { metadata: { labels: { keep: null } } });
    await eventually(() => told.includes("-c=2"));
    expect([sized(1).toSorted(), sized(2)]).toEqual([["a", "b"], []]);
    expect([...informer.lister.indexValues("size")]).toEqual(["1"]);
  });

  test("tells an object from another of the same name", async () => {
    const namespace = await makeNamespace(client, "twice");
    const first = await client.create(widgets, widget("a", 1, namespace));
    const { informer, told } = start(namespace);
    await informer.synced;
    await plane.stopApiServer();
    await plane.startApiServer();
    await client.delete(widgets, first.metadata);
    await client.create(widgets, widget("a", 2, namespace));
    await eventually(() => told.length === 3);
    expect(told).toEqual(["+a=1", "-a=1", "+a=2"]);
  });

  test("hands out everything again at a resync", async () => {
    const namespace = await makeNamespace(client, "resynced");
    await client.create(widgets, widget("a", 1, namespace));
    const { told } = start(namespace, { resyncMs: 200 });
    await eventually(() => told.length >= 3);
    expect(told.slice(0, 3)).toEqual(["+a=1", "a:1->1", "a:1->1"]);
  });

  test("goes on after the API server was away, and misses nothing", async () => {
    const namespace = await makeNamespace(client, "outage");
    for (const name of ["a", "b"]) await client.create(widgets, widget(name, 1, namespace));
    const { informer, told } = start(namespace);
    await informer.synced;
    await plane.stopApiServer();
    await eventually(() => informer.problem !== null);
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    await plane.startApiServer();
    await resize(namespace, "a", 2);
    await client.delete(widgets, { namespace, name: "b" });
    await eventually(() => told.includes("-b=1"));
    expect(told).toEqual(["+a=1", "+b=1", "a:1->2", "-b=1"]);
    await eventually(() => informer.problem === null);
  });

  test("lists anew when the server has forgotten where it was, and tells what it missed", async () => {
    const namespace = await makeNamespace(client, "compacted");
    for (const name of ["a", "b", "c"]) await client.create(widgets, widget(name, 1, namespace));
    const proxy = await startSilentProxy(plane.layout.ports.api);
    const near = await clientBy(proxy.port);
    const failures: string[] = [];
    const { informer, told } = start(namespace, { silenceMs: 6000, logger: noting(failures) }, near);
    await informer.synced;
    proxy.silence();
    await resize(namespace, "a", 2);
    await client.delete(widgets, { namespace, name: "b" });
    await client.create(widgets, widget("d", 4, namespace));
    await plane.forgetHistory();
    await eventually(() => told.includes("-b=1"));
    expect(told.slice(3).toSorted()).toEqual(["+d=4", "-b=1", "a:1->2"]);
    expect(failures.at(-1)).toMatch(/cannot watch widgets.*too old resource version/);
    await resize(namespace, "c", 3);
    await eventually(() => told.includes("c:1->3"));
    near.close();
    await proxy.stop();
  });

  test("notices a watch that has fallen silent", async () => {
    const namespace = await makeNamespace(client, "silent");
    await client.create(widgets, widget("a", 1, namespace));
    const proxy = await startSilentProxy(plane.layout.ports.api);
    const near = await clientBy(proxy.port);
    const { informer, told } = start(namespace, { silenceMs: 2000 }, near);
    await informer.synced;
    await resize(namespace, "a", 2);
    await eventually(() => told.includes("a:1->2"));
    proxy.silence();
    const since = performance.now();
    await resize(namespace, "a", 3);
    await eventually(() => told.includes("a:2->3"));
    expect(performance.now() - since).toBeGreaterThan(1500);
    expect(performance.now() - since).toBeLessThan(6000);
    near.close();
    await proxy.stop();
  });

  test("survives a handler that throws, and says why it cannot follow", async () => {
    const namespace = await makeNamespace(client, "bad-handler");
    const informer = new Informer(client, widgets, { namespace });
    const seen: string[] = [];
    informer.subscribe({ added: () => JSON.parse("{") });
    informer.subscribe({ added: ({ metadata }) => seen.push(metadata.name) });
    running.push(informer.run(aborter.signal));
    await informer.synced;
    await client.create(widgets, widget("a", 1, namespace));
    await eventually(() => seen.length === 1);

    const unknown = new Informer(client, { ...widgets, plural: "gadgets" }, { namespace });
    running.push(unknown.run(aborter.signal));
    await eventually(() => unknown.problem !== null);
    expect(unknown.problem).toMatchObject({ code: "not-found", hint: expect.stringContaining("CustomResourceDefinition") as string });
    expect(unknown.hasSynced).toBe(false);
  });

  async function clientBy(port: number): Promise<KubeClient> {
    const kubeconfig = join(plane.dir, `by-${port}.kubeconfig`);
    writeFileSync(kubeconfig, readFileSync(plane.admin.kubeconfig, "utf8").replaceAll(`:${plane.layout.ports.api}`, `:${port}`), {
      mode: 0o600,
    });
    return await connectKube({ kubeconfig });
  }
});
