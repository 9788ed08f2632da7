import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KubeClient, ResourceKind } from "../../src/kube/index.ts";
import { KubeError, connectKube } from "../../src/kube/index.ts";
import type { ControlPlane } from "../cluster/index.ts";
import { Refusal, serveSubresources } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { failureOf, makeNamespace, namespaces, startWorld, widget, widgets } from "./world.ts";

const instances: ResourceKind = {
  group: "subresources.kubevirt.io",
  version: "v1",
  plural: "virtualmachineinstances",
  kind: "VirtualMachineInstance",
  namespaced: true,
};
const ofDefault = (name: string): { name: string; namespace: string } => ({ namespace: "default", name });

describe.skipIf(skipWithout("cluster"))("the client", () => {
  let plane: ControlPlane;
  let client: KubeClient;
  beforeAll(async () => {
    ({ plane, client } = await startWorld());
  });
  afterAll(async () => {
    client.close();
    await plane.stop();
  });

  test("makes, reads, replaces, patches, applies and deletes", async () => {
    const made = await client.create(widgets, widget("one", 3));
    expect(made).toMatchObject({ apiVersion: "test.thinstream.dev/v1", kind: "Widget", metadata: { name: "one" }, spec: { size: 3 } });
    expect(await client.get(widgets, made.metadata)).toEqual(made);

    const replaced = await client.replace(widgets, { ...made, spec: { size: 4, color: "red" } });
    const patched = await client.patch(widgets, made.metadata, { spec: { color: null, tags: ["a", "b"] } });
    expect(patched.spec).toEqual({ size: 4, tags: ["a", "b"] });
    expect(patched.metadata.generation).toBe((replaced.metadata.generation ?? 0) + 1);

    const applied = await client.apply(widgets, { metadata: ofDefault("two"), spec: { size: 1 } });
    expect(applied.spec).toEqual({ size: 1 });

    const withStatus = await client.patch(widgets, made.metadata, { status: { seen: 7 }, spec: { size: 9 } }, { subresource: "status" });
    expect(withStatus).toMatchObject({ status: { seen: 7 }, spec: { size: 4 } });
    const status = { metadata: ofDefault("two"), status: { note: "n" } };
    expect((await client.apply(widgets, status, { subresource: "status" })).status).toEqual({ note: "n" });

    const dry = await client.create(widgets, widget("never"), { dryRun: true });
    expect(dry.metadata.uid).toBeTypeOf("string");
    expect(await failureOf(client.get(widgets, dry.metadata))).toMatchObject({ code: "not-found" });

    await client.delete(widgets, made.metadata, { propagation: "Background", resourceVersion: withStatus.metadata.resourceVersion });
    await client.delete(widgets, ofDefault("two"));
    expect(await failureOf(client.get(widgets, made.metadata))).toMatchObject({ code: "not-found" });
  });

  test("reads a list page by page, each object with its kind", async () => {
    const namespace = await makeNamespace(client, "pages");
    for (let place = 0; place < 7; place += 1) await client.create(widgets, widget(`w${place}`, place, namespace));
    const pages = [];
    for await (const page of client.list(widgets, { namespace, limit: 3 })) pages.push(page);
    expect(pages.map(({ items, remaining }) => [items.length, remaining])).toEqual([
      [3, 4],
      [3, 1],
      [1, undefined],
    ]);
    expect(new Set(pages.map(({ resourceVersion }) => resourceVersion)).size).toBe(1);
    expect(pages[2]?.items).toMatchObject([{ apiVersion: "test.thinstream.dev/v1", kind: "Widget", metadata: { name: "w6" } }]);
    const found = [];
    for await (const page of client.list(namespaces, { fieldSelector: "metadata.name=pages" })) found.push(...page.items);
    expect(found).toMatchObject([{ apiVersion: "v1", kind: "Namespace", metadata: { name: "pages" } }]);
  });

  test("says each failure by its code, in the server's words", async () => {
    const made = await client.create(widgets, widget("codes"));
    const old = { ...made, metadata: { ...made.metadata, resourceVersion: "1" } };
    const cases: [string, () => Promise<unknown>, RegExp][] = [
      ["not-found", () => client.get(widgets, ofDefault("none")), /cannot get widgets\.test\S+ "none" in namespace "default": .*not found/],
      [
        "not-found",
        () => client.get({ ...widgets, plural: "gadgets" }, ofDefault("none")),
        /could not find the requested resource|page not found/,
      ],
      ["already-exists", () => client.create(widgets, widget("codes")), /already exists/],
      ["conflict", () => client.replace(widgets, old), /modified/],
      ["conflict", () => client.delete(widgets, made.metadata, { uid: "6e0f0a7c-0000-4000-8000-000000000000" }), /[Pp]recondition.*UID/],
      ["conflict", () => client.delete(widgets, made.metadata, { resourceVersion: "1" }), /[Pp]recondition.*ResourceVersion/],
      ["invalid", () => client.create(widgets, widget("wrong", 101)), /spec\.size.*less than or equal to 100/],
      ["invalid", () => client.create(widgets, { ...widget("wrong"), spec: { size: 1, colour: "red" } }), /unknown field "spec\.colour"/],
      ["invalid", () => client.create(widgets, widget("Not_A_Name")), /metadata\.name/],
      ["gone", () => client.watch(widgets, { resourceVersion: "1" }).next(), /too old resource version/],
    ];
    for (const [code, work, words] of cases) {
      const failure = await failureOf(work());
      expect(failure).toBeInstanceOf(KubeError);
      expect(failure).toMatchObject({ code, message: expect.stringMatching(words) as string });
    }
  });

  test("names the fields that are wrong", async () => {
    const failure = (await failureOf(client.create(widgets, { ...widget("bad"), spec: { size: 101, color: "blue" } }))) as KubeError;
    expect(failure.status).toBe(422);
    expect(failure.causes.map(({ field }) => field)).toEqual(expect.arrayContaining(["spec.size", "spec.color"]));
    expect(failure.causes.find(({ field }) => field === "spec.color")?.message).toContain('"red", "green"');
  });

  test("tells a kind that is not served from an object that is not there", async () => {
    const missing = (await failureOf(client.get({ ...widgets, plural: "gadgets" }, ofDefault("a")))) as KubeError;
    expect(missing.hint).toContain("CustomResourceDefinition");
    const gone = (await failureOf(client.get(widgets, ofDefault("a")))) as KubeError;
    expect(gone.hint).toBeUndefined();
  });

  test("refuses a reference that would be a call for all objects", async () => {
    expect(await failureOf(client.delete(widgets, ofDefault("")))).toBeInstanceOf(TypeError);
    expect(await failureOf(client.delete(widgets, { name: "a" }))).toBeInstanceOf(TypeError);
  });

  test("takes a field from another owner only when forced", async () => {
    const metadata = ofDefault("owned");
    const theirs = { apiVersion: "test.thinstream.dev/v1", kind: "Widget", metadata, spec: { size: 1 } };
    await plane.admin.kubectl(["apply", "--server-side", "--field-manager=other", "-f", "-"], { input: JSON.stringify(theirs) });
    const failure = (await failureOf(client.apply(widgets, { metadata, spec: { size: 2 } }))) as KubeError;
    expect(failure).toMatchObject({
      code: "conflict",
      causes: [{ field: ".spec.size", message: expect.stringContaining("other") as string }],
    });
    expect((await client.apply(widgets, { metadata, spec: { size: 2 } }, { force: true })).spec.size).toBe(2);
  });

  test("tells who may not what that is, and what to do", async () => {
    await plane.admin.kubectl(["create", "serviceaccount", "nobody"]);
    const { kubeconfig } = await plane.serviceAccount("default", "nobody");
    const nobody = await connectKube({ kubeconfig });
    const failure = (await failureOf(nobody.list(widgets).next())) as KubeError;
    expect(failure).toMatchObject({ code: "forbidden", status: 403 });
    expect(failure.message).toBe(
      'cannot list widgets.test.thinstream.dev in all namespaces: widgets.test.thinstream.dev is forbidden: User "system:serviceaccount:default:nobody" ' +
        'cannot list resource "widgets" in API group "test.thinstream.dev" at the cluster scope',
    );
    expect(failure.hint).toContain("ClusterRole");
    nobody.close();
  });

  test("freezes a virtual machine by KubeVirt's sub-resource", async () => {
    const calls: object[] = [];
    const stop = await serveSubresources(plane, (call) => {
      if (call.name === "stuck") throw new Refusal(500, "InternalError", "the guest agent does not answer");
      calls.push(call);
    });
    await client.putSubresource(instances, ofDefault("vm"), "freeze", { body: { unfreezeTimeout: "5m0s" } });
    await client.putSubresource(instances, ofDefault("vm"), "unfreeze");
    expect(calls).toMatchObject([
      { verb: "freeze", name: "vm", body: '{"unfreezeTimeout":"5m0s"}' },
      { verb: "unfreeze", name: "vm" },
    ]);
    const failure = await failureOf(client.putSubresource(instances, ofDefault("stuck"), "freeze"));
    expect(failure).toMatchObject({ code: "unavailable", message: expect.stringContaining("the guest agent does not answer") as string });
    await stop();
  });

  test("ends when told to, with the reason given, and when the server takes too long", async () => {
    const reason = new Error("enough");
    expect(await failureOf(client.get(widgets, ofDefault("codes"), { signal: AbortSignal.abort(reason) }))).toBe(reason);
    const aborter = new AbortController();
    const watch = client.watch(widgets, { resourceVersion: "0", namespace: "pages", signal: aborter.signal });
    expect((await watch.next()).value).toMatchObject({ type: "ADDED" });
    setTimeout(() => aborter.abort(reason), 100);
    const rest = (async () => {
      while ((await watch.next()).done !== true) expect(aborter.signal.aborted).toBe(false);
    })();
    expect(await failureOf(rest)).toBe(reason);
    const late = await failureOf(client.get(widgets, ofDefault("codes"), { timeoutMs: 0 }));
    expect(late).toMatchObject({ code: "unavailable", message: expect.stringContaining("took longer than 0 ms") as string });
  });

  test("watches from a version on until the server ends it", async () => {
    const namespace = await makeNamespace(client, "watched");
    const first = await client.create(widgets, widget("a", 1, namespace));
    await client.replace(widgets, { ...first, spec: { size: 2 } });
    await client.delete(widgets, first.metadata);
    const seen = [];
    const resourceVersion = first.metadata.resourceVersion ?? "";
    for await (const event of client.watch(widgets, { namespace, resourceVersion, timeoutSeconds: 2 })) seen.push(event);
    expect(seen.filter(({ type }) => type !== "BOOKMARK").map(({ type, object }) => [type, object.spec.size])).toEqual([
      ["MODIFIED", 2],
      ["DELETED", 2],
    ]);
  });

  test("cannot go on in a list whose version the server has forgotten", async () => {
    const pages = client.list(widgets, { namespace: "pages", limit: 3 });
    expect((await pages.next()).value?.items).toHaveLength(3);
    await plane.forgetHistory();
    expect(await failureOf(pages.next())).toMatchObject({ code: "gone", status: 410 });
  });

  test("knows the server's version", async () => {
    expect(await client.serverVersion()).toMatch(/^v1\.\d+\.\d+/);
  });

  test("finds a server that is down unavailable, and works on when it is back", async () => {
    await plane.stopApiServer();
    const failure = await failureOf(client.get(widgets, ofDefault("codes")));
    expect(failure).toMatchObject({ code: "unavailable", status: 0, message: expect.stringContaining("cannot get widgets") as string });
    await plane.startApiServer();
    expect((await client.get(widgets, ofDefault("codes"))).metadata.name).toBe("codes");
  });
});
