import { chownSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { qemuOwner } from "../../src/agent/libvirt-pull/qemu-owner.ts";
import { parseDomain } from "../../src/libvirt/index.ts";
import { tempDir } from "../lab/index.ts";

const asRoot = process.getuid?.() === 0;
const domain = (label: string) =>
  parseDomain(`<domain><name>vm</name><uuid>0c9e4df2-54ee-4e9e-94a5-0d51ab1cfe11</uuid>${label}<devices/></domain>`);

describe("the user that QEMU runs as", () => {
  test.skipIf(!asRoot)("is libvirt's word, else the owner of its socket, else not known", async () => {
    const socket = join(tempDir("owner"), "virtqemud-sock");
    writeFileSync(socket, "");
    chownSync(socket, 107, 108);
    const uri = `qemu+unix:///session?socket=${socket}`;
    expect(await qemuOwner(domain("<seclabel type='dynamic' model='dac'><label>+64055:+64056</label></seclabel>"), uri)).toEqual({
      uid: 64_055,
      gid: 64_056,
    });
    expect(await qemuOwner(domain(""), uri)).toEqual({ uid: 107, gid: 108 });
    chownSync(socket, 0, 0);
    for (const silent of [uri, `${uri}-absent`, "qemu:///system", "not a URI"]) expect(await qemuOwner(domain(""), silent)).toBeNull();
  });
});
