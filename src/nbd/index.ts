/** NBD client on libnbd: reading and writing an export in parallel, and what block status says of it. */
export { NbdConnection, type NbdAddress, type NbdExportInfo, type NbdOpenOptions, type NbdRead, type NbdWrite } from "./connection.ts";
export { NbdError, type NbdErrorCode } from "./errors.ts";
export type { NbdExtent } from "./extents.ts";
export { ALLOCATION, type ExtentOptions, NbdPool, type NbdPoolOptions } from "./pool.ts";
export { QemuNbd, type QemuNbdOptions } from "./qemu-nbd.ts";
