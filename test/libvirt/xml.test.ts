import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { backupXml, checkpointXml, escapeXml, withoutParent } from "../../src/libvirt/build-xml.ts";
import { LibvirtError } from "../../src/libvirt/errors.ts";
import { parseBackup, parseCheckpointSizes, parseDomain } from "../../src/libvirt/xml.ts";

const domain = `<domain type='kvm' id='3'><name>a &amp; b</name><uuid>u</uuid>
<os><type>hvm</type><loader readonly='yes' type='pflash'>/l.fd</loader><nvram template='/t.fd'>/n.fd</nvram><kernel>/k</kernel></os>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/x/&quot;a&apos;.qcow2' index='1'><dataStore type='block'><format type='raw'/><source dev='/dev/x'/></dataStore></source>
 <backingStore type='file'><format type='raw'/><source file='/base'/></backingStore><target dev='vda' bus='virtio'/><alias name='ua-root'/></disk>
<disk type='volume' device='disk'><driver type='raw'/><source pool='p' volume='v'/><target dev='vdb'/></disk>
<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
</devices><seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+106</label></seclabel></domain>`;

describe("domain XML", () => {
  test("what a backup needs", () => {
    expect(parseDomain(domain)).toEqual({
      name: "a & b",
      uuid: "u",
      hasAgentChannel: true,
      owner: { uid: 64055, gid: 106 },
      boot: { loader: "/l.fd", nvram: "/n.fd", kernel: "/k", initrd: null },
      disks: [
        {
          target: "vda",
          device: "disk",
          type: "file",
          format: "qcow2",
          path: `/x/"a'.qcow2`,
          volume: null,
          readOnly: false,
          alias: "ua-root",
          dataStore: "/dev/x",
        },
        {
          target: "vdb",
          device: "disk",
          type: "volume",
          format: "raw",
          path: null,
          volume: { pool: "p", volume: "v" },
          readOnly: false,
          alias: null,
          dataStore: null,
        },
        {
          target: "sda",
          device: "cdrom",
          type: "file",
          format: "raw",
          path: null,
          volume: null,
          readOnly: true,
          alias: null,
          dataStore: null,
        },
      ],
    });
  });

  test("any text ends in a description or a typed error", () => {
    const tags = fc.constantFrom(
      "<domain>",
      "</domain>",
      "<name>",
      "</name>",
      "<devices>",
      "</devices>",
      "<disk type='file'>",
      "</disk>",
      "<source ",
      "file='x'/>",
      "<!DOCTYPE a [<!ENTITY b 'c'>]>",
      "&b;",
      "<__proto__>",
      "</__proto__>",
      "<![CDATA[",
      "]]>",
      "&#0;",
    );
    const texts = fc.oneof(
      fc.string(),
      fc.array(fc.oneof(tags, fc.string({ maxLength: 4 })), { maxLength: 30 }).map((parts) => parts.join("")),
    );
    const cuts = fc.tuple(fc.nat(domain.length), fc.nat(domain.length)).map(([a, b]) => domain.slice(0, a) + domain.slice(b));
    fc.assert(
      fc.property(fc.oneof(texts, cuts), (text) => {
        for (const parse of [parseDomain, parseBackup, parseCheckpointSizes]) {
          try {
            parse(text);
          } catch (error) {
            expect(error).toBeInstanceOf(LibvirtError);
          }
        }
      }),
    );
  });
});

describe("building", () => {
  test("any path survives the way through XML", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (path) => {
        const plain = path.replace(/[^\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "");
        fc.pre(plain.trim() === plain && plain !== "");
        expect(parseBackup(backupXml(plain, [{ name: "vda", scratch: plain, since: plain }]))).toEqual({
          socket: plain,
          disks: [{ name: "vda", scratch: plain }],
        });
      }),
    );
  });

  test("incremental and full disks in one job", () => {
    const xml = backupXml("/s", [
      { name: "vda", scratch: "/a", since: "c1" },
      { name: "vdb", scratch: "/b", since: null },
    ]);
    expect(xml).toContain("<disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='c1' exportname='vda'>");
    expect(xml).toContain("<disk name='vdb' backup='yes' type='file' backupmode='full' exportname='vdb'>");
    expect(checkpointXml("c<2", ["vda"])).toBe(
      "<domaincheckpoint><name>c&#60;2</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>",
    );
  });

  test("a checkpoint's parent can be left out", () => {
    expect(
      withoutParent("<domaincheckpoint>\n  <parent>\n    <name>p</name>\n  </parent>\n  <name>c</name></domaincheckpoint>"),
    ).not.toContain("<parent>");
    expect(escapeXml("a\u0000b")).toBe("ab");
  });
});
