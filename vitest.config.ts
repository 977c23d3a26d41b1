import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const alias = { "#migrations": fileURLToPath(new URL("./migrations/index.ts", import.meta.url)) };

// unit: pure and fast, no servers. real: starts PostgreSQL, Swift and friends; one file at a time, two cores are few.
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
          testTimeout: 180_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
