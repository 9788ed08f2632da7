import {
  CountingObjectStore,
  FaultyObjectStore,
  LimitedObjectStore,
  type ObjectStore,
  RetryingObjectStore,
} from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { objectStoreContract } from "../../contract/objectstore.ts";

const patient = { attempts: 100, baseDelay: 0.1, maxDelay: 0.5 };

const wrappers: Readonly<Record<string, (inner: ObjectStore) => ObjectStore>> = {
  counting: (inner) => new CountingObjectStore(inner),
  "limit 2": (inner) => new LimitedObjectStore(inner, { concurrency: 2 }),
  "limit with rates": (inner) => new LimitedObjectStore(inner, { concurrency: 8, uploadRate: 2 ** 33, downloadRate: 2 ** 33 }),
  retry: (inner) => new RetryingObjectStore(inner),
  "faults without a rule": (inner) => new FaultyObjectStore(inner, []),
  "retry over faults, answers and questions lost": (inner) => {
    const rules = [
      { probability: 0.25, fault: { kind: "error-before", code: "unavailable" } },
      { probability: 0.25, fault: { kind: "error-after", code: "timeout" } },
      { probability: 0.02, fault: { kind: "delay", milliseconds: 2 } },
    ] as const;
    return new RetryingObjectStore(new FaultyObjectStore(inner, rules, 20_261_121), patient);
  },
  "the whole stack": (inner) => new LimitedObjectStore(new RetryingObjectStore(new CountingObjectStore(inner)), { concurrency: 4 }),
};

for (const [name, wrap] of Object.entries(wrappers)) {
  objectStoreContract(`memory, ${name}`, async () => {
    const memory = new MemoryObjectStore();
    const store = wrap(memory);
    return { store, other: wrap(memory), dispose: () => store.close() };
  });
}
