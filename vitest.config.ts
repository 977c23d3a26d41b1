import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const alias = { "#migrations": fileURLToPath(new URL("./migrations/index.ts", import.meta.url)) };

/** They measure time or memory, or wait for what stalls: nothing else may run beside them. */
const alone = [
  "test/storage/s3.real.test.ts",
  "test/storage/b2.real.test.ts",
  "test/e2e/storages.test.ts",
  "test/e2e/walFetch.test.ts",
  "test/faults/concurrent.test.ts",
  "test/faults/memory.test.ts",
  "test/faults/tenantMemory.test.ts",
  "test/faults/follow.test.ts",
  "test/faults/signals.test.ts",
  "test/contract/catalogSpeed.real.test.ts",
  "test/cli/main.real.test.ts",
];
const servers = {
  // what was built is loaded as the program loads it
  server: { deps: { external: [/\/dist\//] } },
  testTimeout: 180_000,
  hookTimeout: 180_000,
};

// unit: pure and fast, no servers. real: starts PostgreSQL, Swift and friends. alone: likewise, one file at a time.
export default defineConfig({
  test: {
    projects: [
      {
        resolve: { alias },
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**", "test/faults/**", "test/**/*.real.test.ts"],
          testTimeout: 30_000,
        },
      },
      {
        resolve: { alias },
        test: {
          name: "real",
          include: ["test/e2e/**/*.test.ts", "test/faults/**/*.test.ts", "test/**/*.real.test.ts"],
          exclude: alone,
          ...servers,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        resolve: { alias },
        test: {
          name: "alone",
          include: alone,
          ...servers,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
