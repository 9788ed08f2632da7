import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { bootFilesOf, copyDomainXml, type DomainCopy, domainNameOf, LibvirtXmlError } from "../../src/libvirt/index.ts";

const original = `<domain type='kvm' id='7'>
  <name>web &amp; db</name><uuid>11111111-1111-1111-1111-111111111111</uuid>
  <genid>22222222-2222-2222-2222-222222222222</genid>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader readonly='yes' type='pflash'>/fw/CODE.fd</loader><nvram template='/fw/VARS.fd'>/var/nvram/web.fd</nvram>
    <kernel>/boot/vmlinuz</kernel><cmdline>console=ttyS0 a="b"</cmdline></os>
  <sysinfo type='smbios'><system><entry name='uuid'>11111111-1111-1111-1111-111111111111</entry><entry name='serial'>s1</entry></system></sysinfo>
  <devices>
    <disk type='block' device='disk'><driver name='qemu' type='qcow2' cache='none' discard='unmap'/><source dev='/dev/vg/web' index='1'/><backingStore/><target dev='vda' bus='virtio'/><alias name='ua-root'/></disk>
    <disk type='network' device='disk'><source protocol='rbd' name='p/x'/><target dev='vdb'/></disk>
    <disk type='file' device='cdrom'><source file='/iso/x.iso'/><target dev='sda'/><readonly/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='vnet3'/><model type='virtio'/></interface>
    <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/></interface>
    <channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/7/org.qemu.guest_agent.0'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='5901' listen='127.0.0.1'/><tpm model='tpm-crb'><backend type='emulator'/></tpm>
  </devices>
  <seclabel type='dynamic' model='dac'/>
</domain>`;

function copy(over: Partial<DomainCopy> = {}): DomainCopy {
  let mac = 9;
  return {
    name: "copy <1>",
    uuid: "33333333-3333-3333-3333-333333333333",
    nextMac: () => `52:54:00:00:00:${++mac}`,
    disks: new Map([["vda", { path: '/r/a "b"&.raw', format: "raw" as const }]]),
    bootFiles: new Map([["nvram", "/r/nvram-web.fd"]]),
    ...over,
  };
}

describe("the XML of a restored copy", () => {
  const { xml, warnings } = copyDomainXml(original, copy());

  test("has a new name, UUID and MACs, and nothing left of the old", () => {
    expect(domainNameOf(xml)).toBe("copy <1>");
    expect(xml).not.toContain("11111111-1111-1111-1111-111111111111");
    expect(xml).not.toContain("22222222-2222-2222-2222-222222222222");
    expect(xml).not.toMatch(/52:54:00:00:00:0[12]/);
    expect(xml).toMatch(/52:54:00:00:00:10.*52:54:00:00:00:11/s);
    expect(xml).toContain('<entry name="serial">s1</entry>');
  });

  test("has the restored disk at its new place, as a file, with the driver's other settings", () => {
    expect(xml).toContain('<source file="/r/a &quot;b&quot;&amp;.raw">');
    expect(xml).toContain('<driver name="qemu" type="raw" cache="none" discard="unmap">');
    expect(xml).not.toContain("/dev/vg/web");
    expect(xml).not.toContain("ua-root");
  });

  test("says which disk and what state it lacks, and ejects what was in a drive", () => {
    expect(warnings).toEqual([expect.stringContaining("vdb"), expect.stringContaining("TPM")]);
    expect(xml).not.toContain("rbd");
    expect(xml).not.toContain("/iso/x.iso");
    expect(xml).toContain('<target dev="sda">');
  });

  test("can run beside the original: no fixed port, tap name, channel path or label", () => {
    expect(xml).toContain('port="-1"');
    expect(xml).toContain('autoport="yes"');
    expect(xml).not.toContain("vnet3");
    expect(xml).not.toContain("channel/7");
    expect(xml).not.toContain("seclabel");
  });

  test("boots from the restored files, and keeps the rest of the original", () => {
    expect(bootFilesOf(xml)).toEqual(
      new Map([
        ["loader", "/fw/CODE.fd"],
        ["nvram", "/r/nvram-web.fd"],
        ["kernel", "/boot/vmlinuz"],
      ]),
    );
    expect(xml).toContain('template="/fw/VARS.fd"');
    expect(xml).toContain("<cmdline>console=ttyS0 a=&quot;b&quot;</cmdline>");
    expect(xml).toContain('<type arch="x86_64" machine="pc-q35-7.2">hvm</type>');
  });

  test("reads back as itself", () => {
    expect(copyDomainXml(xml, copy()).xml).toBe(copyDomainXml(copyDomainXml(xml, copy()).xml, copy()).xml);
  });
});

test("anything but a domain's XML is refused with a typed error and nothing else", () => {
  const pieces = fc.constantFrom(
    "<domain>",
    "</domain>",
    "<os>",
    "<disk",
    " dev='a'",
    "&amp;",
    "&x;",
    "<!--",
    "]]>",
    "<![CDATA[",
    "<?x?>",
    "__proto__",
    "constructor",
    "<a b='c'/>",
    "\0",
    "text",
  );
  const property = fc.property(
    fc.oneof(
      fc.string(),
      fc.array(pieces).map((all) => all.join("")),
    ),
    (text) => {
      try {
        copyDomainXml(text, copy());
        bootFilesOf(text);
      } catch (thrown) {
        if (!(thrown instanceof LibvirtXmlError)) throw thrown;
      }
    },
  );
  fc.assert(property, { numRuns: 2000 });
});

test("a document that declares entities is refused before it can grow", () => {
  expect(() => domainNameOf('<!DOCTYPE d [<!ENTITY a "aaaa">]><domain><name>&a;</name></domain>')).toThrow(LibvirtXmlError);
});
