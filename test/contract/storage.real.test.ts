import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StorageConfig } from "../../src/domain/config.js";
import { openBare } from "../../src/storage/open.js";
import { checkStorage, openStorage, type Storage, storageContract } from "../../src/storage/storages.js";
import { systemClock } from "../../src/sys/clock.js";
import { b2Config, s3Config } from "../storage/configs.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { type Swift, startSwift } from "../support/swift.js";

const directory = mkdtempSync(join(tmpdir(), "jbackup-contract-"));
let swift: Swift;
let b2: B2Server;

beforeAll(async () => {
  [swift, b2] = await Promise.all([startSwift(), startB2Server()]);
  await swift.createBucket("contract");
  b2.createBucket("contract");
});

afterAll(async () => {
  await Promise.all([swift.stop(), b2.stop()]);
  rmSync(directory, { recursive: true });
});

const configs: Record<StorageConfig["kind"], () => StorageConfig> = {
  local: () => ({ kind: "local", name: "local", path: join(directory, "root") }),
  s3: () => s3Config(swift, "contract"),
  b2: () => b2Config(b2, "contract"),
};

const MIB = 1 << 20;
/** Small parts and pages, so that both happen with little data. */
const options = {
  clock: systemClock,
  partBytes: 5 * MIB,
  pageSize: 4,
  retry: { budgetMs: 20_000, firstPauseMs: 50 },
};

/** Swift looks for an existing object before it writes, not while: of two writers at the same moment both may win. */
const beyondSwift = new Set(["lets one of several concurrent writers of a key win, and refuses the others"]);

describe.each(["local", "s3", "b2"] as const)("a storage of kind %s", (kind) => {
  describe.each([
    ["bare", openBare],
    ["as configured", openStorage],
  ])("%s", (form, open) => {
    let storage: Storage;
    beforeAll(async () => {
      storage = await open(configs[kind](), options);
    });
    afterAll(() => storage.close());

    for (const [index, check] of storageContract({ largeBytes: 11 * MIB + 7 }).entries()) {
      const isBeyond = kind === "s3" && beyondSwift.has(check.name);
      test.skipIf(isBeyond)(check.name, () => check.run(storage, `${form.replace(" ", "-")}/${index}/`));
    }
  });

  test("passes the live check, which leaves nothing behind", async () => {
    const storage = await openStorage(configs[kind](), options);
    const { checks } = await checkStorage(storage, systemClock);
    const failed = checks.filter(
      (check) => check.status === "failed" && !(kind === "s3" && beyondSwift.has(check.name)),
    );
    expect(failed).toEqual([]);
    for await (const left of storage.list("jbackup-check/")) expect.fail(`${left.key} was left behind`);
    await storage.close();
  });
});
