export { FsObjectStore } from "./fs-object-store.ts";
export { fsTrials } from "./trials.ts";
