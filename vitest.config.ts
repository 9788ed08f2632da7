import { type ViteUserConfig, defineConfig } from "vitest/config";
import { testProjects } from "./test/projects.ts";

const { pure, lab } = testProjects(import.meta.dirname);
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

// One at a time: emulated guests share the cores, and their time limits must not depend on the neighbours.
const labProject = {
  test: {
    ...common,
    name: "lab",
    include: [...lab],
    maxWorkers: 1,
    testTimeout: 300_000,
    hookTimeout: 600_000,
    sequence: { groupOrder: 1 },
  },
};

const config: ViteUserConfig = defineConfig({
  test: {
    projects: fast ? [pureProject] : [pureProject, labProject],
    teardownTimeout: 60_000,
  },
});

export default config;
