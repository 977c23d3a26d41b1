import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { pieceName, segmentName, walKey } from "../../../src/domain/wal.js";
import { pathFrom } from "../../../src/domain/walCoverage.js";
import type { Site } from "../../../src/engine/site.js";
import { fetchWal } from "../../../src/engine/wal/fetch.js";
import { fetchWalFile } from "../../../src/engine/wal/fetchFile.js";
import { loadInventory } from "../../../src/engine/wal/inventory.js";
import { openWalReader } from "../../../src/engine/wal/walReader.js";
import { openWalWriter } from "../../../src/engine/wal/walWriter.js";
import { newHeader, sealHeader } from "../../../src/format/header.js";
import { openTestSite } from "../../support/openedSite.js";
import { makeSegment, SMALL_SEGMENT } from "../../support/walSegment.js";

const SYSTEM = "77";
const NAMES = ["one", "two", "three"];

let folder: string;
const opened: Site[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-wal-planted-"));
});
afterEach(async () => {
  for (const site of opened.splice(0)) await site.close();
  await rm(folder, { recursive: true, force: true });
});

async function openIt(): Promise<Site & { warnings: string[] }> {
  const configFile = join(folder, "jbackup.yaml");
  await writeFile(
    configFile,
    [
      "site: test",
      "database: {url: 'postgresql:///nowhere'}",
      "minCopies: 2",
      "storages:",
      ...NAMES.map((name) => `  - {name: ${name}, kind: local, path: ${join(folder, name)}}`),
      "",
    ].join("\n"),
  );
  const site = await openTestSite({ configFile, home: join(folder, "home") });
  opened.push(site);
  return site;
}

const segment = (number: number, timeline = 1): string =>
  segmentName({ timeline, number: BigInt(number) }, SMALL_SEGMENT);
const pathOf = (storage: string, name: string): string => join(folder, storage, walKey(SYSTEM, name));

async function plant(storage: string, name: string, bytes: Buffer): Promise<void> {
  await mkdir(dirname(pathOf(storage, name)), { recursive: true });
  await writeFile(pathOf(storage, name), bytes);
}

const alertsOf = async (site: Site): Promise<string[]> =>
  (await site.catalog.alerts({ status: ["active"] })).map(
    ({ type, severity, storage, message }) => `${type} ${severity} ${storage ?? ""}: ${message}`,
  );

/** The opening of a stored object under another name, with a fresh mark and checksum: all that needs no key. */
async function disguised(stored: Buffer, epochId: string, name: string): Promise<Buffer> {
  const context = {
    site: "test",
    backupId: epochId,
    role: "wal",
    tenantId: null,
    name: `${name} ${randomBytes(16).toString("hex")}`,
  };
  const header = newHeader("none", 65_536, context);
  const opening = sealHeader(header, { key: Buffer.alloc(32), check: randomBytes(16) });
  return Buffer.concat([opening, stored.subarray(opening.length)]);
}

describe("what somebody put where WAL is to go", () => {
  test.each(["bytes of no kind", "an older segment's object as it is", "one with a header made anew"])(
    "%s is replaced by the right content, told as what it is, and archiving goes on",
    async (what) => {
      const site = await openIt();
      const writer = await openWalWriter(site, SYSTEM);
      await writer.put(segment(1), makeSegment(1).content);
      await writer.settled();
      const older = await readFile(pathOf("one", segment(1)));
      const { epochId } = site.format.readWalClaim(older, "test", segment(1));
      const planted =
        what === "bytes of no kind"
          ? randomBytes(400)
          : what === "an older segment's object as it is"
            ? older
            : await disguised(older, epochId, segment(2));
      for (const storage of NAMES) await plant(storage, segment(2), planted);
      const { content } = makeSegment(2);
      await writer.put(segment(2), content);
      await writer.settled();
      expect(writer.missed.size).toBe(0);
      const kept = site.format.withoutTail(content);
      for (const storage of NAMES) {
        const except = NAMES.filter((name) => name !== storage);
        const reader = await openWalReader(site, SYSTEM, { except, without: "lost" });
        expect((await reader.get(segment(2)))?.equals(kept)).toBe(true);
      }
      const alerts = await alertsOf(site);
      expect(alerts).toHaveLength(3);
      for (const alert of alerts)
        expect(alert).toMatch(
          /^SECURITY critical (one|two|three): storage \1 held something else in the place of 000000010000000000000002, which is replaced now: /,
        );
    },
  );

  test("an object of a key that this host cannot open counts as a copy that was not taken, as long as enough others are", async () => {
    const site = await openIt();
    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(segment(1), makeSegment(1).content);
    await writer.settled();
    const older = await readFile(pathOf("one", segment(1)));
    const { epochId } = site.format.readWalClaim(older, "test", segment(1));
    await plant("two", segment(2), await disguised(older, epochId, segment(2)));
    // a new epoch, and the private key is elsewhere: only who seals is here
    await rm(join(folder, "home", "test.wal-epoch.json"));
    await rm(join(folder, "home", "keys", "identity"));
    const configFile = join(folder, "jbackup.yaml");
    const keys = async (name: string) => (await readFile(join(folder, "home", "keys", name), "utf8")).trim();
    await writeFile(
      configFile,
      `${await readFile(configFile, "utf8")}keys:\n  recipients: [${await keys("recipient")}]\n  signing: {file: ${join(folder, "home", "keys", "signing")}}\n`,
    );
    const bare = await openTestSite({ configFile, home: join(folder, "home") });
    opened.push(bare);
    const again = await openWalWriter(bare, SYSTEM);
    await again.put(segment(2), makeSegment(2).content);
    await again.settled();
    expect([...again.missed.keys()]).toEqual(["two"]);
    const [alert] = await alertsOf(bare);
    expect(alert).toContain("SECURITY critical");
    expect(alert).toContain(`storage two holds ${segment(2)} with other content`);
  });
});

describe("a name that somebody put there", () => {
  async function archived(): Promise<Site & { warnings: string[] }> {
    const site = await openIt();
    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(segment(1), makeSegment(1).content);
    await writer.put("00000002.history", Buffer.from("1\t0/180000\tno recovery target specified\n"));
    await writer.put(segment(1, 2), makeSegment(1, { timeline: 2 }).content);
    await writer.put(segment(2, 2), makeSegment(2, { timeline: 2 }).content);
    const { content } = makeSegment(3, { timeline: 2 });
    await writer.put(pieceName(segment(3, 2), 0, 1000), content.subarray(0, 1000));
    await writer.put(pieceName(segment(3, 2), 1000, 3000), content.subarray(1000, 3000));
    await writer.settled();
    return site;
  }
  const lsn = (number: number, offset = 0): bigint => BigInt(number * SMALL_SEGMENT + offset);
  const base = { timeline: 1, startLsn: lsn(1), endLsn: lsn(1, 400), endsSegment: false };

  test("as a history keeps nobody from recovering; of a timeline that has WAL it is missed", async () => {
    const site = await archived();
    await plant("two", "00000003.history", randomBytes(500));
    const reader = await openWalReader(site, SYSTEM);
    const inventory = await loadInventory(site, reader, SMALL_SEGMENT);
    expect([...inventory.histories.keys()]).toEqual([2]);
    expect(pathFrom(inventory, base)).toMatchObject({ timelines: [1, 2], endLsn: lsn(3, 3000), hole: null });
    expect(await fetchWal(site, "00000003.history", join(folder, "RECOVERYHISTORY"))).toBe(false);
    expect((await alertsOf(site)).join()).toContain("storage two has no good copy of 00000003.history");

    const writer = await openWalWriter(site, SYSTEM);
    await writer.put(segment(3, 3), makeSegment(3, { timeline: 3 }).content);
    await writer.settled();
    await expect(loadInventory(site, reader, SMALL_SEGMENT)).rejects.toThrow(
      "00000003.history cannot be read",
    );
  });

  test.each([
    ["over all the others", 0, 500_000],
    ["over the last of them", 1000, 500_000],
    ["behind the last of them", 3000, 500_000],
  ])("as a piece %s lengthens no window, and the pieces that open are joined", async (_where, from, to) => {
    const site = await archived();
    await plant("two", pieceName(segment(3, 2), from, to), randomBytes(900));
    const reader = await openWalReader(site, SYSTEM);
    const inventory = await loadInventory(site, reader, SMALL_SEGMENT);
    expect(pathFrom(inventory, base)).toMatchObject({ endLsn: lsn(3, 3000), hole: null });
    const all = await reader.list();
    const got = await fetchWalFile(reader, segment(3, 2), SMALL_SEGMENT, async () => all);
    const { content } = makeSegment(3, { timeline: 2 });
    expect(
      Buffer.concat(got ?? []).equals(
        Buffer.concat([content.subarray(0, 3000), Buffer.alloc(SMALL_SEGMENT - 3000)]),
      ),
    ).toBe(true);
    await fetchWal(site, segment(3, 2), join(folder, "RECOVERYXLOG"));
    expect(
      (await readFile(join(folder, "RECOVERYXLOG"))).subarray(0, 3000).equals(content.subarray(0, 3000)),
    ).toBe(true);
  });
});

describe("a segment that somebody put", () => {
  test.each([
    ["behind a hole", 5],
    ["right behind the last one", 3],
  ])(
    "%s makes no hole and lengthens nothing; one that every storage holds is damaged, and stays",
    async (_where, number) => {
      const site = await openIt();
      const writer = await openWalWriter(site, SYSTEM);
      for (const nth of [1, 2]) await writer.put(segment(nth), makeSegment(nth).content);
      await writer.settled();
      await plant("two", segment(number), randomBytes(400));
      const base = { timeline: 1, startLsn: 2n ** 20n, endLsn: 2n ** 20n + 400n, endsSegment: false };
      for (const isRecovery of [false, true]) {
        const reader = await openWalReader(site, SYSTEM);
        const inventory = await loadInventory(site, reader, SMALL_SEGMENT, { isRecovery });
        expect(pathFrom(inventory, base)).toMatchObject({ endLsn: 3n * 2n ** 20n, hole: null });
      }
      for (const storage of NAMES) await plant(storage, segment(2), randomBytes(400));
      const after = await loadInventory(site, await openWalReader(site, SYSTEM), SMALL_SEGMENT, {
        isRecovery: true,
      });
      expect(pathFrom(after, base).files).toContain(segment(2));
    },
  );
});

test("what is wrong with WAL is said of the file, without the ids of keys and marks", async () => {
  const site = await openIt();
  const writer = await openWalWriter(site, SYSTEM);
  await writer.put(segment(1), makeSegment(1).content);
  await writer.settled();
  for (const storage of NAMES) await plant(storage, segment(1), randomBytes(400));
  const reader = await openWalReader(site, SYSTEM);
  await expect(reader.get(segment(1))).rejects.toThrow(
    `one: ${segment(1)} is not a jbackup container: its first bytes are wrong`,
  );
});
