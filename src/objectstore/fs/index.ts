export { FsObjectStore } from "./fs-object-store.ts";
