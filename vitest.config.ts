import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Real processes share two cores with the tests: files run one after the other.
    fileParallelism: false,
    pool: "forks",
    setupFiles: ["test/plain-text.ts"],
  },
});
