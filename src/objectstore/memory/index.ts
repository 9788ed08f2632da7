export { MemoryObjectStore } from "./memory-object-store.ts";
