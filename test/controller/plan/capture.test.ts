import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bundle, canonicalJson, findObject, parseBundle } from "../../../src/controller/plan/kubevirt/bundle.ts";
import { planCapture } from "../../../src/controller/plan/kubevirt/capture.ts";
import { legacyFirmwareUuid, withIdentity } from "../../../src/controller/plan/kubevirt/identity.ts";
import { InvalidValueError } from "../../../src/lib/invalid-value.ts";
import { richObjects, richVm, richVmi } from "./rich-machine.ts";

describe("planCapture", () => {
  test("names everything a machine needs", () => {
    const { references, selections } = planCapture(richVm, richVmi);
    expect(references.map(({ apiVersion, kind, namespace, name }) => `${apiVersion} ${kind} ${namespace ?? "-"}/${name}`)).toEqual([
      "v1 ConfigMap shop/settings",
      "v1 ConfigMap shop/unattend",
      "apps/v1 ControllerRevision shop/web-fedora-v1-1",
      "apps/v1 ControllerRevision shop/web-u1.small-v1-1",
      "cdi.kubevirt.io/v1beta1 DataVolume shop/web-root",
      "k8s.cni.cncf.io/v1 NetworkAttachmentDefinition net/vlan7",
      "v1 PersistentVolumeClaim shop/persistent-state-for-web",
      "v1 PersistentVolumeClaim shop/web-data",
      "v1 PersistentVolumeClaim shop/web-dump",
      "v1 PersistentVolumeClaim shop/web-extra",
      "v1 PersistentVolumeClaim shop/web-root",
      "v1 Secret shop/boot-pull",
      "v1 Secret shop/net-data",
      "v1 Secret shop/os-pull",
      "v1 Secret shop/password",
      "v1 Secret shop/ssh",
      "v1 Secret shop/user-data",
      "v1 ServiceAccount shop/robot",
      "kubevirt.io/v1 VirtualMachine shop/web",
      "instancetype.kubevirt.io/v1beta1 VirtualMachineClusterInstancetype -/u1.small",
      "kubevirt.io/v1 VirtualMachineInstance shop/web",
      "instancetype.kubevirt.io/v1beta1 VirtualMachinePreference shop/fedora",
    ]);
    expect(selections).toEqual([
      { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace: "shop", labelSelector: "persistent-state-for=web" },
    ]);
  });

  test("of a bare machine names the machine", () => {
    const { references } = planCapture({ metadata: { name: "web", namespace: "shop" } }, null);
    expect(references.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      "PersistentVolumeClaim persistent-state-for-web",
      "VirtualMachine web",
    ]);
  });
});

describe("a bundle", () => {
  const machine = { namespace: "shop", name: "web" };
  const missing = [{ apiVersion: "v1", kind: "Secret", namespace: "shop", name: "ssh" }];

  test("is the same text for the same objects, in whatever order and however often they come", () => {
    const text = bundle(machine, richObjects, missing);
    fc.assert(
      fc.property(fc.shuffledSubarray([...richObjects], { minLength: richObjects.length }), (shuffled) => {
        expect(bundle(machine, [...shuffled, ...shuffled.slice(0, 2)], missing)).toBe(text);
      }),
    );
  });

  test("keeps all but who wrote which field, and is read as it was written", () => {
    const read = parseBundle(bundle(machine, richObjects, missing));
    expect(read).toMatchObject({ version: 1, namespace: "shop", name: "web", missing: ["Secret/shop/ssh"] });
    expect(read.objects).toHaveLength(richObjects.length);
    expect(findObject(read, "VirtualMachine", "web")?.metadata).toMatchObject({ uid: "vm-uid", resourceVersion: "77" });
    expect(findObject(read, "VirtualMachine", "web")?.metadata).not.toHaveProperty("managedFields");
    expect(findObject(read, "Secret", "user-data")?.["data"]).toEqual({ userdata: "I2Nsb3Vk" });
    expect(findObject(read, "NetworkAttachmentDefinition", "vlan7")).toBeNull();
  });

  test.each([
    "",
    "[]",
    "null",
    '{"version":2,"namespace":"a","name":"b","objects":[],"missing":[]}',
    '{"version":1,"namespace":"a","name":"b","objects":[{}],"missing":[]}',
  ])("%s is none", (text) => {
    expect(() => parseBundle(text)).toThrow(InvalidValueError);
  });

  test("canonical JSON does not depend on the order of keys, and means the same", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const reversed = JSON.parse(JSON.stringify(value), (_key, field: unknown) =>
          typeof field === "object" && field !== null && !Array.isArray(field)
            ? Object.fromEntries(Object.entries(field).toReversed())
            : field,
        ) as unknown;
        expect(canonicalJson(reversed)).toBe(canonicalJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

describe("identity", () => {
  const spec = richVm.spec?.template?.spec ?? {};
  const from = { sourceName: "web", vmi: richVmi, seed: "request/shop/web" };

  test("the UUID of a machine that names none is KubeVirt's", () => {
    // By Python's uuid.uuid5; the first is also the one in KubeVirt's own examples.
    expect(legacyFirmwareUuid("testvm")).toBe("5a9fc181-957e-5c32-9e5a-2de5e9673531");
  });

  test("preserved, it is written down where KubeVirt worked it out", () => {
    const { domain } = withIdentity(spec, { macAddresses: "Preserve", firmwareUUID: "Preserve" }, from);
    expect(domain?.devices?.interfaces).toEqual([
      { name: "default", macAddress: "52:54:00:aa:bb:cc" },
      { name: "vlan", macAddress: "02:00:00:00:00:07" },
    ]);
    expect(domain?.firmware).toMatchObject({ uuid: legacyFirmwareUuid("web"), serial: "S1" });
    expect(
      withIdentity({ domain: { firmware: { uuid: "own" } } }, { macAddresses: "Preserve", firmwareUUID: "Preserve" }, from).domain?.firmware
        ?.uuid,
    ).toBe("own");
  });

  test("regenerated, it is another for every request and target, and the same for the same", () => {
    const renewed = (seed: string): ReturnType<typeof withIdentity> =>
      withIdentity(spec, { macAddresses: "Regenerate", firmwareUUID: "Regenerate" }, { ...from, seed });
    const { domain } = renewed("a");
    expect(domain?.devices?.interfaces).toEqual([{ name: "default" }, { name: "vlan" }]);
    expect(domain?.firmware).not.toHaveProperty("serial");
    expect(domain?.firmware?.uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(renewed("a")).toEqual(renewed("a"));
    expect(renewed("b").domain?.firmware?.uuid).not.toBe(domain?.firmware?.uuid);
  });
});
