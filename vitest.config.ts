import { type ViteUserConfig, defineConfig } from "vitest/config";
import { testProjects } from "./test/projects.ts";

const { pure, lab, alone, e2e } = testProjects(import.meta.dirname);
// Inside the machine that test/e2e/enclose.sh makes.
const enclosed = process.env["THINSTREAM_E2E_DIR"] !== undefined;
const fast = process.env["THINSTREAM_TEST_FAST"] === "1";

// Native bindings want a process of their own, and what a killed process leaves behind must not reach the next test file.
const common = { pool: "forks", environment: "node" } as const;

const pureProject = {
  test: {
    ...common,
    name: "pure",
    include: [...pure],
    maxWorkers: 2,
    // Property tests of many runs on a machine with much else to do: a limit is there for what hangs.
    testTimeout: 300_000,
    hookTimeout: 60_000,
    sequence: { groupOrder: 0 },
  },
};

// Mostly they wait, for guests and for the API server, so two at a time; their time limits are for a machine that is much busier.
const labProject = {
  test: {
    ...common,
    name: "lab",
    include: [...lab],
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 600_000,
    sequence: { groupOrder: 1 },
  },
};

// What is measured must not depend on the neighbours, and some ports are there once.
const aloneProject = { test: { ...labProject.test, name: "alone", include: [...alone], maxWorkers: 1, sequence: { groupOrder: 2 } } };

const e2eProject = { test: { ...labProject.test, name: "e2e", include: [...e2e], maxWorkers: 1, testTimeout: 600_000 } };

const config: ViteUserConfig = defineConfig({
  test: {
    projects: enclosed ? [e2eProject] : fast ? [pureProject] : [pureProject, labProject, aloneProject],
    teardownTimeout: 60_000,
  },
});

export default config;
