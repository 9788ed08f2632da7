import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { objectStoreContract } from "../../contract/objectstore.ts";

objectStoreContract("memory", async () => {
  const store = new MemoryObjectStore();
  return { store, dispose: () => store.close() };
});
