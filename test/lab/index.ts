/**
 * The lab: real libvirt, QEMU, a Linux guest and an S3 server for tests, the demo and the benchmark.
 * Everything has its own directory, ends with the process that started it, and never touches the machine's own libvirt.
 */
export { LabError, run } from "./exec.ts";
export { tempDir } from "./temp-dir.ts";
export { checkout, needTier, skipWithout, tierPath } from "./tiers.ts";
export type { Tier } from "./tiers.ts";
export { startLibvirt } from "./libvirt.ts";
export type { Flavour, LibvirtLab } from "./libvirt.ts";
export type { DiskSpec, DomainSpec } from "./domain-xml.ts";
export { domainXml } from "./domain-xml.ts";
export { defineDomain, defineXml, hmp, qdevPath, snapshot, writeAsGuest } from "./domain.ts";
export type { GuestDomain, LabDomain } from "./domain.ts";
export { GuestConsole } from "./guest-console.ts";
export { compareRaw, createImage, qemuIo, rawCopy, sha256File } from "./images.ts";
export type { ImageOptions } from "./images.ts";
export { startS3 } from "./s3.ts";
export { type S3Make, s3Makes } from "./s3-makes.ts";
export type { S3Lab } from "./s3.ts";
export { Server, freePort } from "./server.ts";
export type { ServerSpec } from "./server.ts";
