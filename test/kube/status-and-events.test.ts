import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KubeClient, KubeObject, ResourceKind } from "../../src/kube/index.ts";
import { EventRecorder, applyStatus, connectKube } from "../../src/kube/index.ts";
import type { ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import type { Widget } from "./world.ts";
import { eventually, failureOf, makeNamespace, namespaces, startWorld, widget, widgets } from "./world.ts";

interface Event extends KubeObject {
  readonly reason: string;
  readonly note: string;
  readonly type: string;
  readonly reportingController: string;
  readonly regarding: { readonly uid: string };
  readonly series?: { readonly count: number };
}
const events: ResourceKind<Event> = { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event", namespaced: true };

describe.skipIf(skipWithout("cluster"))("statuses and events", () => {
  let plane: ControlPlane;
  let client: KubeClient;
  beforeAll(async () => {
    ({ plane, client } = await startWorld());
  });
  afterAll(async () => {
    client.close();
    await plane.stop();
  });

  const eventsIn = async (namespace: string): Promise<Event[]> => {
    const found: Event[] = [];
    for await (const { items } of client.list(events, { namespace })) found.push(...items);
    return found;
  };

  test("twenty writers of one status all get theirs in", async () => {
    const made = await client.create(widgets, widget("stormy"));
    const writers = Array.from({ length: 20 }, (_, writer) => `w${writer}`);
    const clients = await Promise.all([0, 1, 2, 3].map(() => connectKube({ kubeconfig: plane.admin.kubeconfig, qps: 1000, burst: 1000 })));
    const seen = (by: Widget["status"]): Widget["status"] => ({ seen: (by?.seen ?? 0) + 1 });
    await Promise.all(
      writers.map((writer, place) =>
        applyStatus(clients[place % 4] ?? client, widgets, made, {
          next: ({ status }) => ({ ...seen(status), by: { ...status?.by, [writer]: 1 } }),
        }),
      ),
    );
    const { status } = await client.get(widgets, made.metadata);
    expect(status?.seen).toBe(20);
    expect(Object.keys(status?.by ?? {}).toSorted()).toEqual(writers.toSorted());
    for (const one of clients) one.close();
  });

  test("a status that says the same is not written", async () => {
    const made = await client.create(widgets, widget("calm"));
    const once = await applyStatus(client, widgets, made, { next: () => ({ note: "n", by: { a: 1, b: 2 } }) });
    const twice = await applyStatus(client, widgets, once, { next: () => ({ by: { b: 2, a: 1 }, note: "n" }) });
    expect(twice).toBe(once);
    expect((await client.get(widgets, made.metadata)).metadata.resourceVersion).toBe(once.metadata.resourceVersion);
    const less = await applyStatus(client, widgets, once, { next: () => ({ by: { a: 1 } }) });
    expect(less.status).toEqual({ by: { a: 1 } });
    const stale = await applyStatus(client, widgets, once, { next: ({ status }) => ({ ...status, seen: 1 }) });
    expect(stale.status).toEqual({ by: { a: 1 }, seen: 1 });
  });

  test("the status of an object that is gone, or is another by now, is not written", async () => {
    const made = await client.create(widgets, widget("gone"));
    await client.delete(widgets, made.metadata);
    expect(await failureOf(applyStatus(client, widgets, made, { next: () => ({ seen: 1 }) }))).toMatchObject({ code: "not-found" });
    const other = await client.create(widgets, widget("gone"));
    expect(await applyStatus(client, widgets, made, { next: () => ({ seen: 1 }) })).toEqual(other);
    expect((await client.get(widgets, made.metadata)).status).toBeUndefined();
  });

  test("events tell of an object, repeats become a series, too much is not heard", async () => {
    const namespace = await makeNamespace(client, "events");
    const made = await client.create(widgets, widget("told", 1, namespace));
    const recorder = new EventRecorder(client, { controller: "thinstream.dev/controller", instance: "pod-1" });
    const note = { type: "Warning", reason: "BackupFailed", action: "Backup", note: "the store is away" } as const;
    for (let times = 0; times < 10; times += 1) recorder.record(made, note);
    recorder.record(made, { ...note, reason: "Long", note: `${"ä".repeat(600)}!` });
    await recorder.flush();
    const found = await eventsIn(namespace);
    expect(found).toHaveLength(2);
    const repeated = found.find(({ reason }) => reason === "BackupFailed");
    expect(repeated).toMatchObject({ note: note.note, type: "Warning", regarding: { uid: made.metadata.uid }, series: { count: 2 } });
    const long = found.find(({ reason }) => reason === "Long")?.note ?? "";
    expect(Buffer.byteLength(long)).toBeLessThanOrEqual(1024);
    expect(long).toMatch(/^ä{510}…$/);
    expect(await plane.admin.kubectl(["describe", "widget", "told", "-n", namespace])).toMatch(/Warning\s+BackupFailed.*the store is away/);

    for (let times = 0; times < 40; times += 1) recorder.record(made, { ...note, note: `try ${times}` });
    await recorder.flush();
    expect(await eventsIn(namespace)).toHaveLength(25);
    expect(recorder.dropped).toBe(17);
  });

  test("events of what has no namespace are found in the default one", async () => {
    const [namespace] = (await client.list(namespaces, { fieldSelector: "metadata.name=default" }).next()).value?.items ?? [];
    const recorder = new EventRecorder(client, { controller: "thinstream.dev/controller", instance: "pod-1" });
    if (namespace !== undefined) recorder.record(namespace, { type: "Normal", reason: "Seen", action: "Look", note: "here" });
    await recorder.flush();
    expect((await eventsIn("default")).map(({ reason }) => reason)).toContain("Seen");
  });

  test("events that cannot be written hurt nobody", async () => {
    const made = await client.create(widgets, widget("unheard"));
    const { kubeconfig } = await plane.serviceAccount("default", await account("mute"));
    const mute = await connectKube({ kubeconfig });
    const recorder = new EventRecorder(mute, { controller: "thinstream.dev/controller", instance: "pod-1" });
    recorder.record(made, { type: "Normal", reason: "Seen", action: "Look", note: "here" });
    await recorder.flush();
    expect(recorder.dropped).toBe(1);
    await plane.stopApiServer();
    recorder.record(made, { type: "Normal", reason: "SeenAgain", action: "Look", note: "here" });
    const since = performance.now();
    await recorder.flush(300);
    expect(performance.now() - since).toBeLessThan(2000);
    expect(recorder.dropped).toBe(2);
    await plane.startApiServer();
    mute.close();
  });

  test("ten thousand mass writes do not hold up one of the normal lane", async () => {
    const namespace = await makeNamespace(client, "lanes");
    const slow = await connectKube({ kubeconfig: plane.admin.kubeconfig, qps: 20, burst: 10 });
    const aborter = new AbortController();
    const mass = Array.from({ length: 10_000 }, (_, place) =>
      failureOf(slow.create(widgets, widget(`m${place}`, 1, namespace), { lane: "low", signal: aborter.signal })).catch(() => undefined),
    );
    await eventually(async () => {
      const { value } = await client.list(widgets, { namespace }).next();
      return (value?.items.length ?? 0) >= 10;
    });
    const waits: number[] = [];
    for (let times = 0; times < 5; times += 1) {
      const since = performance.now();
      await slow.patch(widgets, { namespace, name: "m0" }, { status: { seen: times } }, { subresource: "status" });
      waits.push(performance.now() - since);
    }
    expect(Math.max(...waits)).toBeLessThan(500);
    aborter.abort(new Error("enough"));
    await Promise.all(mass);
    slow.close();
  });

  async function account(name: string): Promise<string> {
    await plane.admin.kubectl(["create", "serviceaccount", name]);
    return name;
  }
});
