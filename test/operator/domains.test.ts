import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { VirtualMachineBackup } from "../../src/api/index.ts";
import { Vm } from "../acceptance/vm.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { thinstreamJson } from "../support/thinstream.ts";
import { applyCrds, conditionWhen, NAMESPACE, Operator, repositoryObjects } from "./operator.ts";

describe.skipIf(skipWithout("cluster", "host", "s3"))("a repository with a key for each namespace", { timeout: 600_000 }, () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let world: World;
  let repo: Repo;
  let operator: Operator;
  let vm: Vm;

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("domains");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    await plane.admin.kubectl(["create", "namespace", NAMESPACE]);
    await applyCrds(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a"] });
    await plane.admin.apply(repositoryObjects("main", repo).map(withDomains));
    operator = new Operator(plane, { syncSeconds: 30 });
    await operator.start();
    vm = await Vm.start(world, { vda: { size: "64M" } });
  });
  afterAll(async () => {
    await operator?.stop();
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  function withDomains(object: object): object {
    const { spec } = object as { readonly spec?: { readonly encryption: object } };
    return spec === undefined ? object : { ...object, spec: { ...spec, encryption: { ...spec.encryption, domains: "Namespace" } } };
  }

  async function backUp(name: string): Promise<VirtualMachineBackup> {
    await plane.admin.apply([
      {
        apiVersion: "thinstream.dev/v1alpha1",
        kind: "VirtualMachineBackup",
        metadata: { name, namespace: NAMESPACE },
        spec: {
          source: { libvirt: { nodeName: "node-a", uri: vm.world.lab.uri, domain: vm.name } },
          repositoryRef: { name: "main" },
          scratch: { directory: vm.world.lab.dir },
          backoffLimit: 0,
        },
      },
    ]);
    const subject = { kind: "tvmb", name, namespace: NAMESPACE, type: "Succeeded" };
    await conditionWhen(plane.admin, subject, ({ status }) => status !== "Unknown" && status !== "");
    return await plane.admin.get<VirtualMachineBackup>("tvmb", name, "-n", NAMESPACE);
  }

  async function cli<T>(...args: readonly string[]): Promise<T> {
    const words = args[0] === "key" ? 2 : 1;
    const flags = ["--repo", repo.url, "--key-file", repo.keyFile];
    return await thinstreamJson<T>([...args.slice(0, words), ...flags, ...args.slice(words)], { env: repo.env });
  }

  test("puts a run into its namespace's domain, the next one behind it, and shows both", async () => {
    await vm.write("vda", "write -P 1 0 1M");
    const first = await backUp("first");
    expect(first.status, operator.log.slice(-3000)).toMatchObject({ level: "Full", attempts: 1 });
    await vm.write("vda", "write -P 2 1M 64k");
    const second = await backUp("second");
    expect(second.status?.level).toBe("Incremental");
    const { points } = await cli<{ points: readonly { id: string; domain: string }[] }>("points");
    expect(points.map(({ id, domain }) => [id, domain])).toEqual([first, second].map(({ status }) => [status?.pointId, NAMESPACE]));
    const { domains } = await cli<{ domains: readonly { name: string; points: number }[] }>("key", "domains");
    expect(domains.map(({ name, points: count }) => `${name} ${count}`).toSorted()).toEqual(["default 0", `${NAMESPACE} 2`]);
    await expect.poll(async () => (await plane.admin.kubectl(["get", "rp", "-A", "-o", "name"])).trim().split("\n").length).toBe(2);
  });

  test("cannot be changed to one key for all", async () => {
    const patch = JSON.stringify({ spec: { encryption: { domains: "One" } } });
    await expect(plane.admin.kubectl(["patch", "bkrepo", "main", "--type=merge", "-p", patch])).rejects.toThrow("cannot be changed");
  });

  test("whose domain is destroyed says so to who backs up, and shows its restore points no more", async () => {
    await cli("key", "destroy-domain", NAMESPACE, "--confirm", NAMESPACE);
    const third = await backUp("third");
    const said = third.status?.conditions?.find(({ type }) => type === "Succeeded");
    expect(said, operator.log.slice(-3000)).toMatchObject({
      status: "False",
      message: expect.stringContaining(`The domain ${NAMESPACE} was destroyed`) as string,
    });
    await expect
      .poll(async () => (await plane.admin.kubectl(["get", "rp", "-A", "-o", "name"])).trim(), { timeout: 240_000, interval: 1000 })
      .toBe("");
    const ready = await conditionWhen(plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
    expect(ready).toMatchObject({ status: "True" });
  });
});
