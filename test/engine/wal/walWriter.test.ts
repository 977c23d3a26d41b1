import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JBackupError } from "../../../src/domain/errors.js";
import { pieceName, segmentName, walKey } from "../../../src/domain/wal.js";
import type { Site } from "../../../src/engine/site.js";
import { behindStorages, failing, healMissed, noteMissed } from "../../../src/engine/wal/missed.js";
import { openWalReader } from "../../../src/engine/wal/walReader.js";
import { openWalWriter } from "../../../src/engine/wal/walWriter.js";
import type { Storage } from "../../../src/storage/storages.js";
import { openTestSite } from "../../support/openedSite.js";

const SYSTEM = "7301";
const MIB = 2 ** 20;
const NAMES = ["one", "two", "three"];

let folder: string;
const opened: Site[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-wal-store-"));
});
afterEach(async () => {
  for (const site of opened.splice(0)) await site.close();
  await rm(folder, { recursive: true, force: true });
});

/** What happens to a storage before each of its calls; real storages, held up or failing where a test says so. */
type Trouble = (call: "put" | "get" | "list" | "stat" | "delete", key: string) => Promise<void>;

function troubled(storage: Storage, before: Trouble): Storage {
  return new Proxy(storage, {
    get(target, property) {
      const value = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      if (property === "put" || property === "stat" || property === "delete")
        return async (key: string, ...rest: unknown[]) => {
          await before(property, key);
          return value.call(target, key, ...rest);
        };
      if (property === "get" || property === "list")
        return async function* (key: string, ...rest: unknown[]) {
          await before(property, key);
          yield* value.call(target, key, ...rest);
        };
      return value.bind(target);
    },
  });
}

async function siteWith({
  minCopies = 2,
  troubles = {},
  home = "home",
}: {
  minCopies?: number;
  troubles?: Record<string, Trouble>;
  home?: string;
} = {}): Promise<Site & { warnings: string[] }> {
  const configFile = join(folder, "jbackup.yaml");
  const storages = NAMES.map((name) => `  - {name: ${name}, kind: local, path: ${join(folder, name)}}`);
  await writeFile(
    configFile,
    [
      "site: test",
      "database: {url: 'postgresql:///nowhere'}",
      `minCopies: ${minCopies}`,
      "storages:",
      ...storages,
      "",
    ].join("\n"),
  );
  const site = await openTestSite({ configFile, home: join(folder, home) });
  opened.push(site);
  return {
    ...site,
    storages: async () =>
      (await site.storages()).map((entry) => {
        const trouble = troubles[entry.name];
        return entry.storage === null || trouble === undefined
          ? entry
          : { ...entry, storage: troubled(entry.storage, trouble) };
      }),
  };
}

const segment = (number: number): string => segmentName({ timeline: 1, number: BigInt(number) }, 16 * MIB);
const away = async (): Promise<never> => {
  throw new JBackupError("storage_unavailable", "it does not answer");
};
const isWal = (key: string): boolean => key.startsWith("wal/") && !key.includes("/keys/");

async function held(storage: string): Promise<string[]> {
  const found = await readdir(join(folder, storage, "wal"), { recursive: true }).catch(() => []);
  return found
    .filter((name) => name.endsWith(".jbk"))
    .map((name) => name.slice(name.lastIndexOf("/") + 1, -".jbk".length))
    .sort();
}

const alertsOf = async (site: Site): Promise<[string, string, string][]> =>
  (await site.catalog.alerts({ status: ["active"] })).map(({ type, severity, message }) => [
    type,
    severity,
    message,
  ]);

describe("WAL that is put", () => {
  test("comes back from every storage, without the zeros at its end", async () => {
    const site = await siteWith();
    const content = Buffer.concat([randomBytes(70_000), Buffer.alloc(16 * MIB - 70_000)]);
    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(segment(1), content);
    await writer.put("00000002.history", Buffer.from("1\t0/A000198\tno recovery target specified\n"));
    await writer.put(segment(2), Buffer.alloc(MIB));
    await writer.settled();
    expect(writer.missed.size).toBe(0);
    for (const name of NAMES) {
      const others = NAMES.filter((other) => other !== name);
      const alone = await siteWith({ troubles: Object.fromEntries(others.map((other) => [other, away])) });
      const reader = await openWalReader(alone, SYSTEM, { without: "lost" });
      expect((await reader.get(segment(1)))?.equals(content.subarray(0, 70_000))).toBe(true);
      expect((await reader.get(segment(2)))?.length).toBe(0);
      expect(await reader.get(segment(3))).toBeNull();
    }
    const all = await (await openWalReader(site, SYSTEM)).list();
    expect(all.map(({ file, storages }) => [file.kind, storages.toSorted()])).toEqual([
      ["segment", ["one", "three", "two"]],
      ["segment", ["one", "three", "two"]],
      ["history", ["one", "three", "two"]],
    ]);
  });

  test("a copy that is damaged is passed over, and told", async () => {
    const site = await siteWith();
    const writer = await openWalWriter(site, SYSTEM);
    const content = randomBytes(200_000);
    await writer.put(segment(1), content);
    await writer.settled();
    const path = join(folder, "one", walKey(SYSTEM, segment(1)));
    const bytes = await readFile(path);
    bytes.writeUInt8(bytes.readUInt8(100_000) ^ 1, 100_000);
    await rm(path);
    await writeFile(path, bytes);
    const reader = await openWalReader(site, SYSTEM);
    expect((await reader.get(segment(1)))?.equals(content)).toBe(true);
    expect((await alertsOf(site))[0]).toMatchObject([
      "INTEGRITY_FAILURE",
      "error",
      expect.stringContaining("storage one has no good copy"),
    ]);
  });

  test("nothing is said to be missing while a storage that may have it cannot be asked", async () => {
    const writer = await openWalWriter(await siteWith(), SYSTEM);
    await writer.put(segment(1), randomBytes(100));
    await writer.settled();
    const reader = await openWalReader(await siteWith({ troubles: { two: away } }), SYSTEM);
    expect(await reader.get(segment(1))).not.toBeNull();
    await expect(reader.get(segment(2))).rejects.toThrow("cannot be read (two: it does not answer)");
  });
});

describe("the same name again", () => {
  test("with the same content is fine, from any process of the site, also when it was sealed anew", async () => {
    const content = randomBytes(50_000);
    const first = await openWalWriter(await siteWith(), SYSTEM);
    await Promise.all([first.put(segment(1), content), first.put(segment(1), content)]);
    await first.settled();
    await rm(join(folder, "home", "test.wal-epoch.json")); // another key from now on
    const site = await siteWith();
    const second = await openWalWriter(site, SYSTEM);
    await second.put(segment(1), Buffer.concat([content, Buffer.alloc(1000)]));
    await second.settled();
    expect(second.missed.size).toBe(0);
    expect(await alertsOf(site)).toEqual([]);
  });

  test("with other content is refused, the first one is kept, and the alarm is raised", async () => {
    const site = await siteWith();
    const writer = await openWalWriter(site, SYSTEM);
    const content = randomBytes(50_000);
    await writer.put(segment(1), content);
    await writer.settled();
    const other = Buffer.from(content);
    other.writeUInt8(other.readUInt8(49_000) ^ 1, 49_000);
    await expect(writer.put(segment(1), other)).rejects.toThrow(
      /storage (one|two|three) holds 000000010000000000000001 with other content/,
    );
    await writer.settled();
    const reader = await openWalReader(site, SYSTEM);
    expect((await reader.get(segment(1)))?.equals(content)).toBe(true);
    expect((await alertsOf(site))[0]?.slice(0, 2)).toEqual(["SECURITY", "critical"]);
  });

  test("is told as well when only a slower storage holds other content", async () => {
    const one = await siteWith({ minCopies: 1, troubles: { one: away, two: away } });
    const early = await openWalWriter(one, SYSTEM);
    await early.put(segment(1), randomBytes(1000));
    const slow: Trouble = async (call, key) => {
      if (call === "put" && isWal(key)) await delay(100);
    };
    const site = await siteWith({ troubles: { three: slow } });
    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(segment(1), randomBytes(1000));
    await writer.settled();
    expect(failing(writer)).toEqual(["three"]);
    expect((await alertsOf(site)).map(([type, , message]) => [type, message])).toContainEqual([
      "SECURITY",
      `storage three holds ${segment(1)} with other content`,
    ]);
  });
});

describe("a storage in trouble", () => {
  test("that is down holds nobody up; it is named, and gets everything from another one later", async () => {
    const down = {
      three: async (call: string, key: string) => (call === "put" && isWal(key) ? away() : undefined),
    };
    const site = await siteWith({ troubles: down as Record<string, Trouble> });
    const writer = await openWalWriter(site, SYSTEM);
    for (let number = 1; number <= 6; number++) await writer.put(segment(number), randomBytes(1000));
    await writer.settled();
    expect(failing(writer)).toEqual(["three"]);
    await noteMissed(site, writer);
    expect((await alertsOf(site))[0]?.slice(0, 2)).toEqual(["COPY_MISSING", "error"]);
    expect(await behindStorages(site)).toEqual(["three"]);

    await healMissed(site, SYSTEM, failing(writer));
    expect(await held("three")).toEqual([]);
    // the nearest one is away now: the next one has it too
    const again = await siteWith({
      troubles: { one: async (call) => (call === "get" ? away() : undefined) },
    });
    await healMissed(again, SYSTEM, []);
    expect(await held("three")).toEqual(await held("one"));
    expect(await behindStorages(again)).toEqual([]);
    expect(await alertsOf(again)).toEqual([]);
    const alone = await siteWith({ troubles: { one: away, two: away } });
    expect(await (await openWalReader(alone, SYSTEM, { without: "lost" })).get(segment(6))).not.toBeNull();
  });

  test("is given what it missed also when another process stored the same there meanwhile", async () => {
    const down: Trouble = async (call, key) => (call === "put" && isWal(key) ? away() : undefined);
    const content = randomBytes(1000);
    const site = await siteWith({ troubles: { three: down } });
    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(segment(1), content);
    await writer.settled();
    await noteMissed(site, writer);
    await rm(join(folder, "home", "test.wal-epoch.json"));
    const other = await openWalWriter(await siteWith(), SYSTEM);
    await other.put(segment(1), content);
    await other.settled();
    await healMissed(await siteWith(), SYSTEM, []);
    expect(await behindStorages(site)).toEqual([]);
  });

  test("that was down at the beginning is taken in when it is back", async () => {
    let isDown = true;
    const site = await siteWith({ troubles: { two: async () => (isDown ? away() : undefined) } });
    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(segment(1), randomBytes(1000));
    await writer.rejoin();
    await writer.put(segment(2), randomBytes(1000));
    isDown = false;
    await writer.rejoin();
    await writer.put(segment(3), randomBytes(1000));
    await writer.settled();
    expect(await held("two")).toEqual([segment(3)]);
    await noteMissed(site, writer);
    await healMissed(site, SYSTEM, []);
    expect(await held("two")).toEqual([segment(1), segment(2), segment(3)]);
  });

  test("too many of them: nothing counts as stored, and the error names each", async () => {
    const down: Trouble = async (call, key) => (call === "put" && isWal(key) ? away() : undefined);
    const site = await siteWith({ troubles: { one: down, two: down } });
    const writer = await openWalWriter(site, SYSTEM);
    await expect(writer.put(segment(1), randomBytes(1000))).rejects.toThrow(
      /^only 1 of the 2 copies that minCopies asks for can be stored \((one|two): it does not answer; (one|two): it does not answer\)$/,
    );
  });

  test("a slow one is passed over when much waits for it, without an alarm, and never when minCopies needs it", async () => {
    let release: () => void = () => undefined;
    const stalled = new Promise<void>((resolve) => {
      release = resolve;
    });
    const slow: Trouble = async (call, key) => (call === "put" && isWal(key) ? stalled : undefined);
    const site = await siteWith({ troubles: { three: slow } });
    const writer = await openWalWriter(site, SYSTEM);
    for (let number = 1; number <= 80; number++) await writer.put(segment(number), randomBytes(500));
    expect(writer.missed.get("three")?.names.size).toBe(16);
    expect(failing(writer)).toEqual([]);
    release();
    await writer.settled();
    await noteMissed(site, writer);
    await healMissed(site, SYSTEM, []);
    expect(await held("three")).toHaveLength(80);
    expect(await alertsOf(site)).toEqual([]);

    const needed = await siteWith({ minCopies: 3 });
    const many = await openWalWriter(needed, SYSTEM);
    await Promise.all(Array.from({ length: 200 }, (_, n) => many.put(segment(1000 + n), randomBytes(500))));
    expect(many.missed.size).toBe(0);
  });
});

describe("pieces", () => {
  const pieces = [pieceName(segment(5), 0, 100), pieceName(segment(5), 100, 300)];

  test("go when their segment is whole, also one that is still on its way to a slow storage", async () => {
    const slow: Trouble = async (call, key) => {
      if (call === "put" && key.includes("00000064-")) await delay(150);
    };
    const site = await siteWith({ troubles: { three: slow } });
    const writer = await openWalWriter(site, SYSTEM);
    for (const name of pieces) await writer.put(name, randomBytes(100));
    expect(await held("one")).toEqual(pieces);
    await writer.put(segment(5), randomBytes(1000));
    await writer.remove(pieces);
    await writer.settled();
    for (const name of NAMES) expect(await held(name)).toEqual([segment(5)]);
  });

  test("that an earlier run left are found", async () => {
    const writer = await openWalWriter(await siteWith(), SYSTEM);
    for (const name of pieces) await writer.put(name, randomBytes(100));
    await writer.put(segment(4), randomBytes(100));
    await writer.settled();
    const later = await openWalWriter(await siteWith(), SYSTEM);
    expect(await later.leftOf(segment(5))).toEqual({ pieces, isWhole: false });
    expect(await later.leftOf(segment(4))).toEqual({ pieces: [], isWhole: true });
    expect(await later.leftOf(segment(6))).toEqual({ pieces: [], isWhole: false });
  });
});

describe("the key of the day", () => {
  test("is in a storage before anything that is sealed with it", async () => {
    const order: string[] = [];
    const watch: Trouble = async (call, key) => {
      if (call === "put" && key.startsWith("wal/")) order.push(key.includes("/keys/") ? "key" : "object");
    };
    const writer = await openWalWriter(await siteWith({ troubles: { one: watch } }), SYSTEM);
    await Promise.all([1, 2, 3].map((number) => writer.put(segment(number), randomBytes(100))));
    await writer.settled();
    expect(order).toEqual(["key", "object", "object", "object"]);
  });

  test("is shared by processes, and another one takes over after a day", async () => {
    const keys = async (): Promise<string[]> => readdir(join(folder, "one", "wal", SYSTEM, "keys"));
    for (let run = 1; run <= 2; run++) {
      const writer = await openWalWriter(await siteWith(), SYSTEM);
      await writer.put(segment(run), randomBytes(100));
      await writer.settled();
    }
    expect(await keys()).toHaveLength(1);
    const site = await siteWith();
    const tomorrow = { ...site, clock: { ...site.clock, now: () => new Date(Date.now() + 25 * 3_600_000) } };
    const writer = await openWalWriter(tomorrow, SYSTEM);
    await writer.put(segment(3), randomBytes(100));
    await writer.settled();
    expect(await keys()).toHaveLength(2);
    const reader = await openWalReader(site, SYSTEM);
    for (const number of [1, 2, 3]) expect((await reader.get(segment(number)))?.length).toBeGreaterThan(90);
  });
});
