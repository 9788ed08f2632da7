import { expect, test } from "vitest";
import { fitBundle } from "../../../src/controller/plan/kubevirt/fit-bundle.ts";
import type { KubeObject } from "../../../src/controller/plan/kubevirt/bundle.ts";

function object(kind: string, name: string, bytes: number): KubeObject {
  return { apiVersion: "v1", kind, metadata: { name, namespace: "shop" }, data: "x".repeat(bytes) };
}

test("what fits stays as it is", () => {
  const objects = [object("ConfigMap", "a", 300), object("Secret", "b", 300)];
  expect(fitBundle(objects, 1000)).toEqual({ objects, leftOut: [] });
});

test("the largest ConfigMaps and Secrets go, and nothing else", () => {
  const machine = object("VirtualMachine", "web", 900);
  const small = object("Secret", "small", 10);
  const fitted = fitBundle([machine, object("ConfigMap", "large", 500), object("Secret", "larger", 700), small], 1400);
  expect(fitted.objects).toEqual([machine, small]);
  expect(fitted.leftOut.map(({ kind, name }) => `${kind} ${name}`)).toEqual(["Secret larger", "ConfigMap large"]);
});
