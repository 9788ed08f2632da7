import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KubeClient } from "../../src/kube/index.ts";
import { mapConcurrently } from "../../src/lib/concurrency.ts";
import type { ControlPlane } from "../cluster/index.ts";
import { run, skipWithout } from "../lab/index.ts";
import { eventually, makeNamespace, startWorld, widgets } from "./world.ts";

const COUNT = 5000;

/** Runs in a process of its own: what an informer of so many objects keeps, and how long it takes to have them. */
const measure = `
  const { Informer, connectKube } = await import(process.argv[1]);
  const widgets = { group: "test.thinstream.dev", version: "v1", plural: "widgets", kind: "Widget", namespaced: true };
  const client = await connectKube({ kubeconfig: process.argv[2] });
  await client.serverVersion();
  const used = () => { globalThis.gc(); return process.memoryUsage(); };
  const before = used();
  const since = performance.now();
  const informer = new Informer(client, widgets, { indices: { color: ({ spec }) => [spec.color] } });
  const aborter = new AbortController();
  const running = informer.run(aborter.signal);
  await informer.synced;
  const ms = performance.now() - since;
  const peak = process.memoryUsage().rss;
  const after = used();
  const figures = { count: informer.lister.size, red: informer.lister.byIndex("color", "red").length, ms, heap: after.heapUsed - before.heapUsed, rss: peak - before.rss };
  process.stdout.write(JSON.stringify(figures));
  aborter.abort();
  await running;
  process.exit(0);`;

describe.skipIf(skipWithout("cluster"))(`an informer of ${COUNT} objects`, () => {
  let plane: ControlPlane;
  let client: KubeClient;
  beforeAll(async () => {
    ({ plane, client } = await startWorld());
  });
  afterAll(async () => {
    client.close();
    await plane.stop();
  });

  test("keeps them in little memory", async () => {
    const namespace = await makeNamespace(client, "many");
    await mapConcurrently(Array.from({ length: COUNT }), 16, async (_, place) => {
      const metadata = {
        name: `point-${place}`,
        namespace,
        labels: { "thinstream.dev/vm": `vm-${place % 50}`, "thinstream.dev/repository": "main" },
      };
      // With these about as long as a RestorePoint.
      const tags = Array.from({ length: 10 }, (__, line) => `disk ${line} of point ${place}: 10737418240 bytes, clean`);
      await client.create(widgets, { metadata, spec: { size: place % 100, color: place % 2 === 0 ? "red" : "green", tags } });
    });
    await eventually(async () => (await client.list(widgets, { limit: 1 }).next()).value?.remaining === COUNT - 1);
    const door = join(import.meta.dirname, "../../src/kube/index.ts");
    const args = ["--expose-gc", "--input-type=module", "-e", measure, door, plane.admin.kubeconfig];
    const figures = JSON.parse(await run(process.execPath, args)) as Record<"count" | "red" | "ms" | "heap" | "rss", number>;
    const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    const per = (bytes: number): string => mib((bytes / COUNT) * 10_000);
    console.info(
      `${COUNT} objects: synced in ${figures.ms.toFixed(0)} ms, heap ${mib(figures.heap)}, resident set at its peak ${mib(figures.rss)} more; 10,000 would be ${per(figures.heap)} of heap`,
    );
    expect(figures).toMatchObject({ count: COUNT, red: COUNT / 2 });
    expect((figures.heap / COUNT) * 10_000).toBeLessThan(30 * 2 ** 20);
  });
});
