import { once } from "node:events";
import { request } from "node:https";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { skipWithout } from "../lab/index.ts";
import type { Identity, SubresourceCall } from "./index.ts";
import { ControlPlane, Refusal, applyKubeVirt, serveSubresources } from "./index.ts";

const vm = {
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachine",
  metadata: { name: "web", namespace: "default" },
  spec: {
    runStrategy: "Always",
    template: {
      spec: { domain: { devices: { disks: [{ name: "root", disk: { bus: "virtio" } }] } }, fieldOfTomorrow: { deep: [1, null] } },
    },
  },
};

describe.skipIf(skipWithout("cluster"))("KubeVirt's part of the API", () => {
  let plane: ControlPlane;
  let admin: Identity;
  let unserve: () => Promise<void>;
  let calls: SubresourceCall[];
  beforeAll(async () => {
    plane = await ControlPlane.start();
    admin = plane.admin;
    await applyKubeVirt(admin);
    unserve = await serveSubresources(plane, (call) => {
      calls.push(call);
      if (call.name === "stopped") throw new Refusal(409, "Conflict", "VM is not running");
      if (call.name === "broken") throw new Error("the agent does not answer");
    });
  });
  beforeEach(() => {
    calls = [];
  });
  afterAll(async () => {
    await unserve();
    await plane.stop();
  });

  const put = (as: Identity, name: string, verb: string, input = "{}"): Promise<string> => {
    const path = `/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/${name}/${verb}`;
    return as.kubectl(["replace", "--raw", path, "-f", "-"], { input });
  };

  test("keeps a VM's fields, also those nobody knows", async () => {
    await admin.apply([vm]);
    expect(await admin.get("vm", "web")).toMatchObject(vm);
  });

  test("has status apart from the rest for a VM, and together for its instance", async () => {
    const status = { phase: "Running", printableStatus: "Running" };
    await admin.apply([
      { ...vm, metadata: { name: "apart", namespace: "default" }, status },
      { ...vm, kind: "VirtualMachineInstance", metadata: { name: "together", namespace: "default" }, status },
    ]);
    expect(await admin.get("vm", "apart")).not.toHaveProperty("status");
    expect(await admin.get("vmi", "together")).toMatchObject({ status });
    await admin.kubectl(["patch", "vm", "apart", "--subresource=status", "--type=merge", "-p", JSON.stringify({ status })]);
    expect(await admin.get("vm", "apart")).toMatchObject({ status });
  });

  test("passes freeze and unfreeze on, with the user and the body", async () => {
    await put(admin, "web", "freeze", '{"unfreezeTimeout":"5m0s"}');
    await put(admin, "web", "unfreeze");
    const call = { namespace: "default", name: "web", user: "admin" };
    expect(calls).toEqual([
      { ...call, verb: "freeze", body: '{"unfreezeTimeout":"5m0s"}' },
      { ...call, verb: "unfreeze", body: "{}" },
    ]);
  });

  test("gives the refusals of the virtual machine to who asked", async () => {
    await expect(put(admin, "stopped", "freeze")).rejects.toMatchObject({ reason: "Conflict", message: /VM is not running/ });
    await expect(put(admin, "broken", "freeze")).rejects.toMatchObject({ reason: "InternalError", message: /the agent does not answer/ });
    await expect(put(admin, "web", "explode")).rejects.toMatchObject({ reason: "NotFound" });
  });

  test("asks RBAC first", async () => {
    await admin.kubectl(["create", "serviceaccount", "freezer"]);
    const freezer = await plane.serviceAccount("default", "freezer");
    await expect(put(freezer, "web", "freeze")).rejects.toMatchObject({ reason: "Forbidden" });
    expect(calls).toEqual([]);
    const rule = { apiGroups: ["subresources.kubevirt.io"], resources: ["virtualmachineinstances/freeze"], verbs: ["update"] };
    const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "freezer" };
    const common = { apiVersion: "rbac.authorization.k8s.io/v1", metadata: { name: "freezer", namespace: "default" } };
    const subjects = [{ kind: "ServiceAccount", name: "freezer", namespace: "default" }];
    await admin.apply([
      { ...common, kind: "Role", rules: [rule] },
      { ...common, kind: "RoleBinding", roleRef, subjects },
    ]);
    await put(freezer, "web", "freeze");
    expect(calls).toMatchObject([{ verb: "freeze", user: "system:serviceaccount:default:freezer" }]);
    await expect(put(freezer, "web", "unfreeze")).rejects.toMatchObject({ reason: "Forbidden" });
  });

  test("listens to nobody but the API server", async () => {
    const { spec } = await admin.get<{ spec: { service: { port: number } } }>("apiservice", "v1.subresources.kubevirt.io");
    const headers = { "x-remote-user": "admin" };
    const path = "/apis/subresources.kubevirt.io/v1";
    const call = request({ host: "127.0.0.1", port: spec.service.port, path, headers, agent: false, rejectUnauthorized: false });
    const failed = once(call, "response");
    call.end();
    await expect(failed).rejects.toThrow(/certificate required|ECONNRESET|socket hang up/);
  });
});
