import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { historyName, pieceName, walKey } from "../../../src/domain/wal.js";
import type { Site } from "../../../src/engine/site.js";
import { handOverMissed, healMissed, noteMissed } from "../../../src/engine/wal/missed.js";
import { openWalReader } from "../../../src/engine/wal/walReader.js";
import { openWalWriter, type WalWriter } from "../../../src/engine/wal/walWriter.js";
import type { Storage } from "../../../src/storage/storage.js";
import { openTestSite } from "../../support/openedSite.js";
import { makeSite, type TestSite } from "../../support/site.js";
import { makeSegment } from "../../support/walSegment.js";

const SYSTEM = "77";
const NAMES = ["one", "two", "three"];
let folder: TestSite;
let site: Awaited<ReturnType<typeof openTestSite>>;

beforeEach(async () => {
  folder = await makeSite({
    url: "postgresql:///shop?host=/nonexistent",
    storages: (place) => NAMES.map((name) => `- {name: ${name}, kind: local, path: ${join(place, name)}}`),
  });
  site = await openTestSite(folder);
});

afterEach(async () => {
  await site.close();
  await folder.remove();
});

const place = (storage: string): string => join(folder.folder, storage);

async function filesIn(storage: string): Promise<string[]> {
  const all = await readdir(place(storage), { recursive: true });
  return all.flatMap((path) => path.match(/([^/]+)\.jbk$/)?.[1] ?? []).sort();
}

const storageNamed = async (name: string): Promise<Storage> => {
  const storage = (await site.storages()).find((opened) => opened.name === name)?.storage;
  if (!storage) throw new Error(`no storage ${name}`);
  return storage;
};

const withChange = (storage: Storage, change: Partial<Storage>): Storage =>
  new Proxy(storage, {
    get(target, key) {
      const value = Reflect.get(key in change ? change : target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

/** The site with one storage that does something else. */
function changed(name: string, change: Partial<Storage>): Site {
  return {
    ...site,
    storages: async () =>
      (await site.storages()).map((opened) =>
        opened.name === name && opened.storage !== null
          ? { ...opened, storage: withChange(opened.storage, change) }
          : opened,
      ),
  };
}

async function putAll(writer: WalWriter, numbers: number[]): Promise<void> {
  for (const number of numbers) {
    const { name, content } = makeSegment(number);
    await writer.put(name, content);
  }
  await writer.settled();
}

/** A file where the folder was: nothing can be stored below it. */
async function away(storage: string): Promise<void> {
  await rename(place(storage), place(`${storage}-away`));
  await writeFile(place(storage), "");
}

async function back(storage: string): Promise<void> {
  await rm(place(storage));
  await rename(place(`${storage}-away`), place(storage));
}

const read = async (name: string): Promise<Buffer | null> => (await openWalReader(site, SYSTEM)).get(name);

/** Nothing but this storage. */
async function readFrom(storage: string, name: string): Promise<Buffer | null> {
  const except = NAMES.filter((other) => other !== storage);
  return (await openWalReader(site, SYSTEM, { except })).get(name);
}

describe("what is put", () => {
  test("is in every storage, and comes back without the zeros at its end", async () => {
    const { name, content } = makeSegment(1, { filled: 0.3 });
    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(name, content);
    await writer.put(historyName(2), Buffer.from("1\t0/5000000\tno recovery target specified\n"));
    await writer.settled();
    for (const storage of NAMES) {
      expect(await filesIn(storage)).toEqual([name, historyName(2)].sort());
      const got = (await readFrom(storage, name)) as Buffer;
      expect(Buffer.concat([got, Buffer.alloc(content.length - got.length)]).equals(content)).toBe(true);
      expect(got.at(-1)).not.toBe(0);
    }
    expect(await read(makeSegment(9).name)).toBeNull();
  });

  test("again is fine, by any process; another content is a conflict, and the first one stays", async () => {
    const { name, content } = makeSegment(1);
    await putAll(await openWalWriter(site, SYSTEM), [1]);
    await rm(join(folder.home, "test.wal-epoch.json")); // sealed with another key from now on
    await putAll(await openWalWriter(site, SYSTEM), [1]);
    const other = Buffer.from(content);
    other[5000] = (other[5000] ?? 0) ^ 1;
    const writer = await openWalWriter(site, SYSTEM);
    await expect(writer.put(name, other)).rejects.toMatchObject({ code: "conflict" });
    await writer.settled().catch(() => undefined); // told by put already
    expect((await read(name))?.[5000]).toBe(content[5000]);
  });

  test("raises the alarm also when only the slowest storage holds another content", async () => {
    const { name, content } = makeSegment(1);
    const other = Buffer.from(content);
    other[5000] = (other[5000] ?? 0) ^ 1;
    const first = await openWalWriter(site, SYSTEM);
    await first.put(name, other);
    await first.settled();
    for (const storage of ["one", "two"]) await rm(join(place(storage), walKey(SYSTEM, name)));
    const three = await storageNamed("three");
    const slow = changed("three", {
      async put(...args) {
        await delay(200);
        return three.put(...args);
      },
    });
    const writer = await openWalWriter(slow, SYSTEM);
    await writer.put(name, content);
    await writer.settled();
    expect(writer.missed.get("three")?.error).toMatchObject({ code: "conflict" });
    const alerts = await site.catalog.alerts({});
    expect(alerts.map(({ type, severity, fingerprint }) => [type, severity, fingerprint])).toContainEqual([
      "SECURITY",
      "critical",
      `wal_conflict:${name}`,
    ]);
  });

  test("is removed in every storage, and does not come back", async () => {
    const { name, content } = makeSegment(1);
    const three = await storageNamed("three");
    const slow = changed("three", {
      async put(...args) {
        await delay(100);
        return three.put(...args);
      },
    });
    const writer = await openWalWriter(slow, SYSTEM);
    const piece = pieceName(name, 0, 1000);
    await writer.put(piece, content.subarray(0, 1000));
    await writer.remove([piece]);
    await writer.settled();
    for (const storage of NAMES) expect(await filesIn(storage)).toEqual([]);
  });
});

describe("a storage that is down", () => {
  test("does not hold up the others, and is given everything when it is back", async () => {
    const writer = await openWalWriter(site, SYSTEM);
    await putAll(writer, [1]);
    await away("two");
    await putAll(writer, [2, 3]);
    expect([...(writer.missed.get("two")?.names ?? [])].sort()).toEqual([
      makeSegment(2).name,
      makeSegment(3).name,
    ]);
    await noteMissed(site, writer);
    await back("two");
    await healMissed(site, SYSTEM, []);
    expect(await filesIn("two")).toEqual(await filesIn("one"));
    expect((await readFrom("two", makeSegment(3).name))?.length).toBeGreaterThan(0);
    expect(await missedNow()).toEqual({});
  });

  test("which took a file after all, sealed by another process, is healed all the same", async () => {
    const writer = await openWalWriter(site, SYSTEM);
    await putAll(writer, [1]);
    await away("two");
    await putAll(writer, [2, 3]);
    await noteMissed(site, writer);
    await back("two");
    const onlyTwo: Site = {
      ...site,
      config: { ...site.config, minCopies: 1 },
      storages: async () => (await site.storages()).filter(({ name }) => name === "two"),
    };
    await putAll(await openWalWriter(onlyTwo, SYSTEM), [2]);
    await healMissed(site, SYSTEM, []);
    expect(await missedNow()).toEqual({});
    expect(await filesIn("two")).toEqual(await filesIn("one"));
  });

  test("is healed from any other one that works", async () => {
    const writer = await openWalWriter(site, SYSTEM);
    await putAll(writer, [1]);
    await away("two");
    await putAll(writer, [2]);
    await noteMissed(site, writer);
    await back("two");
    await away("one");
    await healMissed(site, SYSTEM, []);
    expect(await missedNow()).toEqual({});
    expect(await filesIn("two")).toEqual(await filesIn("three"));
  });

  test("is not said to have everything while the only one that has a file is away, and gets the rest", async () => {
    const writer = await openWalWriter(site, SYSTEM);
    await putAll(writer, [1]);
    await away("two");
    await putAll(writer, [2, 3]);
    await noteMissed(site, writer);
    await back("two");
    await rm(join(place("three"), walKey(SYSTEM, makeSegment(2).name)));
    await away("one");
    await healMissed(site, SYSTEM, []);
    expect(await missedNow()).toEqual({ two: [makeSegment(2).name] });
    expect(await filesIn("two")).toEqual([makeSegment(1).name, makeSegment(3).name]);
    await back("one");
    await healMissed(site, SYSTEM, []);
    expect(await missedNow()).toEqual({});
    expect(await filesIn("two")).toEqual(await filesIn("one"));
  });

  test("needs no pieces of segments that were removed meanwhile", async () => {
    const writer = await openWalWriter(site, SYSTEM);
    const { name, content } = makeSegment(2);
    await putAll(writer, [1]);
    await away("two");
    const piece = pieceName(name, 0, 1000);
    await writer.put(piece, content.subarray(0, 1000));
    await writer.put(name, content);
    await writer.settled();
    await writer.remove([piece]);
    await noteMissed(site, writer);
    await back("two");
    await healMissed(site, SYSTEM, []);
    expect(await missedNow()).toEqual({});
    expect(await filesIn("two")).toEqual([makeSegment(1).name, name]);
  });

  test("which missed something else while it was given the first is given that too", async () => {
    const writer = await openWalWriter(site, SYSTEM);
    await putAll(writer, [1]);
    await away("two");
    await putAll(writer, [2]);
    await noteMissed(site, writer);
    await back("two");
    const later: WalWriter = {
      ...writer,
      missed: new Map([["two", { names: new Set([makeSegment(3).name]), error: null }]]),
    };
    const one = await storageNamed("one");
    let isNoted = false;
    const meanwhile = changed("one", {
      async *get(...args) {
        if (!isNoted) await noteMissed(site, later); // as another process would
        isNoted = true;
        yield* one.get(...args);
      },
    });
    await healMissed(meanwhile, SYSTEM, []);
    expect(await missedNow()).toEqual({ two: [makeSegment(3).name] });
  });
});

describe("the list of what was missed", () => {
  const missing = (number: number): WalWriter["missed"] =>
    new Map([["two", { names: new Set([makeSegment(number).name]), error: null }]]);

  test("loses nothing when many note at the same time", async () => {
    const numbers = Array.from({ length: 12 }, (_, nth) => nth + 1);
    await Promise.all(numbers.map((number) => noteMissed(site, { missed: missing(number) })));
    expect(await missedNow()).toEqual({
      two: expect.arrayContaining(numbers.map((number) => makeSegment(number).name)),
    });
  });

  test("gets what is missed while it is written with the next look", async () => {
    const writer = { missed: missing(1) };
    const noted = handOverMissed(site, writer);
    writer.missed.set("two", { names: new Set([makeSegment(2).name]), error: null });
    await noted;
    await handOverMissed(site, writer);
    expect(writer.missed.size).toBe(0);
    expect(await missedNow()).toEqual({ two: [makeSegment(1).name, makeSegment(2).name] });
  });

  test("that cannot be written leaves everything with the writer", async () => {
    const list = join(folder.home, "test.wal-missed.json");
    await mkdir(list, { recursive: true });
    const writer = { missed: missing(1) };
    await expect(handOverMissed(site, writer)).rejects.toThrow();
    expect([...(writer.missed.get("two")?.names ?? [])].sort()).toEqual([makeSegment(1).name]);
    await rmdir(list);
  });
});

const missedNow = async (): Promise<unknown> =>
  JSON.parse(await readFile(join(folder.home, "test.wal-missed.json"), "utf8"));

test("with too few storages left nothing is said to be stored", async () => {
  const strict = { ...site, config: { ...site.config, minCopies: 2 } };
  const writer = await openWalWriter(strict, SYSTEM);
  await putAll(writer, [1]);
  await away("two");
  await away("three");
  const { name, content } = makeSegment(2);
  await expect(writer.put(name, content)).rejects.toMatchObject({ code: "too_few_copies" });
});

test("a bad copy is passed over for a good one", async () => {
  const { name, content } = makeSegment(1);
  await putAll(await openWalWriter(site, SYSTEM), [1]);
  const path = join(place("one"), walKey(SYSTEM, name));
  const stored = await readFile(path);
  stored[stored.length >> 1] = (stored[stored.length >> 1] ?? 0) ^ 1;
  await writeFile(path, stored);
  const got = (await read(name)) as Buffer;
  expect(content.subarray(0, got.length).equals(got)).toBe(true);
  expect(site.warnings.join()).toContain("trying the next storage");
});
