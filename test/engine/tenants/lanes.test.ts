import { expect, test } from "vitest";
import { JBackupError } from "../../../src/domain/errors.js";
import type { Site } from "../../../src/engine/site.js";
import { openLanes } from "../../../src/engine/tenants/lanes.js";
import type { Storage } from "../../../src/storage/storage.js";

/** Keeps names alone, and refuses those of one backup. */
function storageOf(kind: Storage["kind"], code: "bug" | "storage_denied"): Storage & { kept: Set<string> } {
  const kept = new Set<string>();
  const storage = {
    name: kind,
    kind,
    kept,
    async put(key: string) {
      if (key.startsWith("bad/")) throw new JBackupError(code, `${key} is refused`);
      kept.add(key);
    },
    stat: async (key: string) => (kept.has(key) ? { bytes: 1 } : undefined),
    delete: async (key: string) => void kept.delete(key),
    async *list() {
      for (const key of [...kept].sort()) yield { key, bytes: 1, modifiedAt: null };
    },
  };
  return storage as unknown as Storage & { kept: Set<string> };
}

async function storedBy(storages: Storage[]): Promise<{ told: Map<string, string>; lost: string[] }> {
  const told = new Map<string, string>();
  const site = {
    config: { minCopies: storages.length },
    signal: new AbortController().signal,
    storage: { bytesBody: () => null },
    step: () => undefined,
    report: { warn: () => undefined },
  } as unknown as Site;
  const lanes = openLanes<string>(site, storages, (name, holding, error) => {
    told.set(name, error === null ? `in ${holding.length}` : error.message);
  });
  try {
    for (const folder of ["a", "bad", ..."bcdefghijkl"])
      await lanes.store({ facts: folder, folder, object: null, manifest: Buffer.from("x") });
    await lanes.finish();
  } catch (error) {
    told.set("all", (error as JBackupError).code);
  }
  return { told, lost: [...lanes.lost().keys()] };
}

test("what is wrong with one backup is no fault of the storages", async () => {
  const storages = [storageOf("local", "bug"), storageOf("s3", "bug")];
  const { told, lost } = await storedBy(storages);
  expect(lost).toEqual([]);
  expect(told.size).toBe(13);
  expect(told.get("bad")).toBe("bad/manifest.json is refused");
  told.delete("bad");
  expect(new Set(told.values())).toEqual(new Set(["in 2"]));
  for (const { kept } of storages) expect(kept.size).toBe(12);
});

test("a storage that refuses gets nothing more", async () => {
  const { told, lost } = await storedBy([storageOf("local", "storage_denied"), storageOf("s3", "bug")]);
  expect(lost).toEqual(["local"]);
  expect(told.get("all")).toBe("too_few_copies");
});
