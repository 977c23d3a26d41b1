import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Expected, inParallel, requireShown } from "../../../src/engine/tenants/shown.js";
import { LocalStorage } from "../../../src/storage/local.js";
import type { ObjectFacts } from "../../../src/storage/storage.js";
import { bytesBody } from "../../../src/storage/storages.js";
import { WrappedStorage } from "../../../src/storage/wrapped.js";
import { systemClock } from "../../../src/sys/clock.js";

class Counted extends WrappedStorage {
  lists = 0;
  stats = 0;
  override list(prefix: string, after?: string): AsyncIterable<ObjectFacts> {
    this.lists++;
    return super.list(prefix, after);
  }
  override stat(key: string): Promise<ObjectFacts | undefined> {
    this.stats++;
    return super.stat(key);
  }
}

let folder: string;
let storage: Counted;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "jbackup-shown-"));
  storage = new Counted(new LocalStorage({ kind: "local", name: "far", path: folder }, systemClock));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const keyOf = (tenant: number, day = "9"): string =>
  `backups/tenant/t${String(tenant).padStart(3, "0")}/2026/11/${day}/contents.jbk`;

async function stored(tenants: number, day?: string): Promise<Expected[]> {
  const expected = Array.from({ length: tenants }, (_, nth) => ({ key: keyOf(nth, day), bytes: 10 + nth }));
  await Promise.all(expected.map(({ key, bytes }) => storage.put(key, bytesBody([Buffer.alloc(bytes)]))));
  return expected;
}

test("one list tells of many, and nobody is asked about each", async () => {
  const expected = await stored(40);
  storage.stats = 0;
  await requireShown(storage, expected);
  expect([storage.lists, storage.stats]).toEqual([1, 0]);
});

test("a few are looked at one by one", async () => {
  const expected = await stored(3);
  storage.stats = 0;
  await requireShown(storage, expected);
  expect([storage.lists, storage.stats]).toEqual([0, 3]);
});

test("backups of other days may lie in between, as many as there are", async () => {
  for (let day = 0; day < 45; day++) await stored(8, `${day}-old`);
  const expected = await stored(8);
  storage.stats = 0;
  await requireShown(storage, expected);
  expect(storage.lists).toBe(1);
  expect(storage.stats).toBeGreaterThan(0);
});

test("what was acknowledged and is not there is told, and so is what is too short", async () => {
  const expected = await stored(20);
  const lost = keyOf(13);
  rmSync(join(folder, lost));
  await expect(requireShown(storage, expected)).rejects.toMatchObject({
    code: "storage_unavailable",
    message: `storage far acknowledged ${lost} but does not have it`,
  });
  writeFileSync(join(folder, lost), "short");
  await expect(requireShown(storage, expected)).rejects.toThrow(
    `storage far acknowledged ${lost} but has 5 bytes of it`,
  );
});

test("so many are done at a time, and a failure lets no further one begin", async () => {
  let [running, most, done] = [0, 0, 0];
  const work = async (item: number): Promise<void> => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 5));
    running--;
    if (item === 4) throw new Error("the fifth");
    done++;
  };
  const items = Array.from({ length: 30 }, (_, nth) => nth);
  await expect(inParallel(3, items, work)).rejects.toThrow("the fifth");
  expect([most, running]).toEqual([3, 0]);
  expect(done).toBeLessThan(8);
});
