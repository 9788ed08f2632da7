/** KubeVirt as far as a backup sees it, on the simulated nodes of `test/node`: real libvirt and QEMU in virt-launcher pods. */
export { LAUNCHER_IMAGE } from "./launcher-image.ts";
export { LAUNCHER_URI, Launcher, SOCKET } from "./launcher.ts";
export { Machine, claimedDisks, contentOf } from "./machine.ts";
export type { VmSpec, VolumeSpec } from "./make-vm.ts";
export { vmObjects } from "./make-vm.ts";
export { Migration } from "./migration.ts";
export type { ClaimedDisk, VmObject, VmiObject } from "./objects.ts";
export { CBT_LABEL, GUEST_ANNOTATION, QCOW2_ANNOTATION } from "./objects.ts";
export { KubeVirt } from "./stand-in.ts";
