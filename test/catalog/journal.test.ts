import { mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Catalog } from "../../src/catalog/catalog.js";
import { withJournal } from "../../src/catalog/catalogs.js";
import type { JBackupError } from "../../src/domain/errors.js";
import { ownMark } from "../../src/sys/processes.js";
import { backupNumber } from "../contract/catalogRecords.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";
import { FaultyCatalog, StillClock } from "./faultyCatalog.js";
import { temporaryDirectory } from "./places.js";

const RETRY_MS = 1_000;

interface Scene {
  faulty: FaultyCatalog;
  clock: StillClock;
  journal: string;
  troubles: JBackupError[];
  /** Another process, as it were, with the same journal and catalog. */
  start(): Catalog;
  files(): Promise<string[]>;
}

async function scene(): Promise<Scene> {
  const directory = await temporaryDirectory();
  const journal = join(directory, "journal");
  const faulty = new FaultyCatalog(directory);
  const clock = new StillClock();
  const troubles: JBackupError[] = [];
  const options = {
    clock,
    location: "the place",
    onTrouble: (trouble: JBackupError) => void troubles.push(trouble),
    retryAfterMs: RETRY_MS,
  };
  return {
    faulty,
    clock,
    journal,
    troubles,
    start: () => withJournal(faulty.open, journal, options),
    files: async () => (await readdir(journal).catch(() => [])).sort(),
  };
}

const audited = (id: string): Parameters<Catalog["appendAudit"]>[0] => ({
  id,
  at: backupNumber(1).createdAt,
  actor: "a",
  action: "b",
  subject: "c",
  detail: {},
});
const line = (number: number): string =>
  `${JSON.stringify({ v: 1, write: "saveBackups", record: [backupNumber(number)] })}\n`;
const idsOf = (numbers: number[]): string[] => numbers.map((number) => backupNumber(number).id);
const storedIds = async (catalog: Catalog): Promise<string[]> =>
  (await catalog.backups()).map((backup) => backup.id).reverse();

describe("a catalog with a journal", () => {
  it("writes through while the catalog works, and makes no files", async () => {
    const { start, files, faulty } = await scene();
    const catalog = start();
    expect(catalog.location).toBe("the place");
    await catalog.saveBackups([backupNumber(1)]);
    expect(await catalog.backups()).toEqual([backupNumber(1)]);
    expect(catalog.location).toBe(faulty.url);
    expect(await files()).toEqual([]);
    await catalog.close();
  });

  it("keeps writes when the catalog is down, readable by their owner only, and says so once", async () => {
    const { start, files, faulty, journal, troubles } = await scene();
    faulty.isDown = true;
    const catalog = start();
    await catalog.saveBackups([backupNumber(1)]);
    await catalog.appendAudit(audited("e1"));
    const [file = ""] = await files();
    expect((await stat(join(journal, file))).mode & 0o777).toBe(0o600);
    expect((await stat(journal)).mode & 0o777).toBe(0o700);
    expect(await files()).toHaveLength(1);
    expect((await readFile(join(journal, file), "utf8")).split("\n")).toHaveLength(3);
    expect(troubles.map((trouble) => trouble.message)).toEqual(["the catalog is switched off"]);
    await expect(catalog.backups()).rejects.toMatchObject({ code: "catalog_unavailable" });
    await catalog.close();
  });

  it("replays in order, before anything newer, when the catalog is back", async () => {
    const { start, files, faulty, clock } = await scene();
    const catalog = start();
    await catalog.saveBackups([backupNumber(1, { status: "in_progress" })]);
    faulty.isDown = true;
    await catalog.saveBackups([backupNumber(1, { status: "completed" })]);
    await catalog.appendAudit(audited("e1"));
    faulty.isDown = false;
    clock.pass(RETRY_MS);
    faulty.calls.length = 0;
    await catalog.saveBackups([backupNumber(1, { status: "verified" })]);
    expect(faulty.calls).toEqual(["saveBackups", "appendAudit", "saveBackups"]);
    expect(await catalog.backups()).toMatchObject([{ status: "verified" }]);
    expect(await files()).toEqual([]);
    await catalog.close();
  });

  it("leaves a catalog that is down alone for a while", async () => {
    const { start, faulty, clock } = await scene();
    faulty.isDown = true;
    const catalog = start();
    for (const number of [1, 2, 3]) await catalog.saveBackups([backupNumber(number)]);
    expect(faulty.opened).toBe(1);
    clock.pass(RETRY_MS);
    await catalog.saveBackups([backupNumber(4)]);
    expect(faulty.opened).toBe(2);
    faulty.isDown = false;
    clock.pass(RETRY_MS);
    expect(await storedIds(catalog)).toEqual(idsOf([1, 2, 3, 4]));
    await catalog.close();
  });

  it("tells of the next outage too", async () => {
    const { start, faulty, clock, troubles } = await scene();
    const catalog = start();
    for (const number of [1, 2]) {
      faulty.isDown = true;
      await catalog.saveBackups([backupNumber(number)]);
      faulty.isDown = false;
      clock.pass(RETRY_MS);
      await catalog.backups();
    }
    expect(troubles).toHaveLength(2);
    await catalog.close();
  });

  it("is replayed by another process", async () => {
    const { start, faulty } = await scene();
    faulty.isDown = true;
    await start().saveBackups([backupNumber(1)]);
    faulty.isDown = false;
    const other = start();
    expect(await storedIds(other)).toEqual(idsOf([1]));
    await other.close();
  });

  it("records what was said, not what became of it afterwards", async () => {
    const { start, faulty, clock } = await scene();
    faulty.isDown = true;
    const catalog = start();
    const backup = backupNumber(1);
    const saving = catalog.saveBackups([backup]);
    backup.status = "failed";
    await saving;
    faulty.isDown = false;
    clock.pass(RETRY_MS);
    expect(await catalog.backups()).toMatchObject([{ status: "completed" }]);
    await catalog.close();
  });

  it("journals no record that a working catalog refuses", async () => {
    const { start, files } = await scene();
    const catalog = start();
    await catalog.appendAudit(audited("e1"));
    await expect(catalog.appendAudit({ ...audited("e1"), actor: "z" })).rejects.toMatchObject({
      code: "conflict",
    });
    expect(await files()).toEqual([]);
    await catalog.close();
  });

  it.runIf(canMount)("waits in memory while the disk is full, and says so once", async () => {
    using disk = mountSmallDisk("32k");
    const { start, faulty, journal, files, troubles } = await scene();
    await symlink(disk.path, journal);
    const filler = join(disk.path, "filler");
    await expect(writeFile(filler, Buffer.alloc(64 * 1024))).rejects.toThrow("ENOSPC");
    faulty.isDown = true;
    const catalog = start();
    for (const number of [1, 2]) await catalog.saveBackups([backupNumber(number)]);
    expect(troubles.map(({ message }) => message).slice(1)).toEqual([
      `the disk of ${journal} is full: what is done is recorded when it has room again`,
    ]);
    await rm(filler);
    await catalog.saveBackups([backupNumber(3)]);
    const [written] = (await files()).slice(-1);
    expect(await readFile(join(journal, written ?? ""), "utf8")).toBe([1, 2, 3].map(line).join(""));
    await expect(writeFile(filler, Buffer.alloc(64 * 1024))).rejects.toThrow("ENOSPC");
    await catalog.saveBackups([backupNumber(4)]);
    await rm(filler);
    await catalog.close();
    faulty.isDown = false;
    const other = start();
    expect(await storedIds(other)).toEqual(idsOf([1, 2, 3, 4]));
    await other.close();
  });

  it("says when it can keep nothing", async () => {
    const { start, faulty, journal } = await scene();
    await writeFile(journal, "in the way");
    faulty.isDown = true;
    await expect(start().saveBackups([backupNumber(1)])).rejects.toMatchObject({
      code: "catalog_unavailable",
      message: expect.stringMatching(
        /^the catalog is down and its journal in .*\/journal cannot be written: E/,
      ),
      hint: "Make that directory writable or make room on its disk; what is recorded only there gets lost.",
    });
  });
});

describe("replaying a journal", () => {
  const write = async (journal: string, name: string, text: string): Promise<void> => {
    await mkdir(journal, { recursive: true });
    await writeFile(join(journal, name), text);
  };

  it("ignores a torn last line", async () => {
    const { start, files, journal, troubles } = await scene();
    await write(journal, "1.jsonl", line(1) + line(2) + line(3).slice(0, 40));
    const catalog = start();
    expect(await storedIds(catalog)).toEqual(idsOf([1, 2]));
    expect(await files()).toEqual([]);
    expect(troubles).toEqual([]);
    await catalog.close();
  });

  it("keeps what is left when the catalog goes down again, and only that", async () => {
    const { start, files, journal, faulty, clock } = await scene();
    await write(journal, "1.jsonl", line(1) + line(2) + line(3));
    faulty.callsLeft = 1;
    const catalog = start();
    await expect(catalog.backups()).rejects.toMatchObject({ code: "catalog_unavailable" });
    expect(await files()).toEqual(["1.jsonl"]);
    expect(await readFile(join(journal, "1.jsonl"), "utf8")).toBe(line(2) + line(3));
    faulty.isDown = false;
    faulty.callsLeft = 100;
    clock.pass(RETRY_MS);
    expect(await storedIds(catalog)).toEqual(idsOf([1, 2, 3]));
    expect(faulty.calls).toEqual(["saveBackups", "saveBackups", "saveBackups", "backups"]);
    await catalog.close();
  });

  it("goes from the oldest journal to the newest", async () => {
    const { start, journal } = await scene();
    const noted = (note: string): string =>
      `${JSON.stringify({ v: 1, write: "saveBackups", record: [backupNumber(1, { note })] })}\n`;
    await write(journal, "2.jsonl", noted("new"));
    await write(journal, "1.jsonl", noted("old"));
    const catalog = start();
    expect(await catalog.backups()).toMatchObject([{ note: "new" }]);
    await catalog.close();
  });

  it.each([
    ["a record that the catalog refuses", line(2).replace(backupNumber(2).createdAt, "never")],
    ["a damaged line", "{ half a re\n"],
    ["a record from a later jbackup", line(2).replace('"v":1', '"v":2')],
    ["a call that is no write", line(2).replace("saveBackups", "close")],
  ])("sets aside %s, names it, and goes on", async (_, poison) => {
    const { start, files, journal, troubles } = await scene();
    await write(journal, "1.jsonl", line(1) + poison + line(3));
    const catalog = start();
    expect(await storedIds(catalog)).toEqual(idsOf([1, 3]));
    expect(await files()).toEqual(["1.refused"]);
    expect(await readFile(join(journal, "1.refused"), "utf8")).toBe(poison);
    expect(troubles).toMatchObject([
      {
        code: "conflict",
        message: expect.stringContaining(
          `a journaled record was refused by the catalog and kept in ${journal}/1.refused: `,
        ),
      },
    ]);
    await catalog.close();
  });

  it("leaves alone what a living process is replaying, and takes over from a dead one", async () => {
    const { start, files, journal } = await scene();
    const { pid, startTicks, bootId } = ownMark();
    await write(journal, `1.jsonl.claimed-${pid}_${startTicks}_${bootId}`, line(1));
    await write(journal, `2.jsonl.claimed-${pid}_1_${bootId}`, line(2));
    await write(journal, `3.jsonl.claimed-${pid}_${startTicks}_another-boot`, line(3));
    const catalog = start();
    expect(await storedIds(catalog)).toEqual(idsOf([2, 3]));
    expect(await files()).toEqual([`1.jsonl.claimed-${pid}_${startTicks}_${bootId}`]);
    await catalog.close();
  });

  it("loses nothing when the journal is taken away between two writes", async () => {
    const { start, files, faulty, journal } = await scene();
    faulty.isDown = true;
    const writer = start();
    await writer.saveBackups([backupNumber(1)]);
    const [name = ""] = await files();
    await rename(join(journal, name), join(journal, `${name}.claimed-1_1_gone`));
    await writer.saveBackups([backupNumber(2)]);
    faulty.isDown = false;
    const reader = start();
    expect(await storedIds(reader)).toEqual(idsOf([1, 2]));
    await reader.close();
  });

  it("loses nothing while others replay and it goes on writing", async () => {
    const { start, faulty, files } = await scene();
    faulty.isDown = true;
    const writer = start();
    const numbers = Array.from({ length: 200 }, (_, number) => number);
    let isWriting = true;
    const writing = (async () => {
      for (const number of numbers) await writer.saveBackups([backupNumber(number)]);
      isWriting = false;
    })();
    // the writer has been told that the catalog is down, and the clock stands still: it journals to the end
    while (faulty.opened === 0) await new Promise(setImmediate);
    faulty.isDown = false;
    let replayers = 0;
    while (isWriting) {
      const replayer = start();
      await replayer.backups({ limit: 1 });
      await replayer.close();
      replayers++;
    }
    await writing;
    const last = start();
    expect(await storedIds(last)).toEqual(idsOf(numbers));
    expect(await files()).toEqual([]);
    expect(replayers).toBeGreaterThan(5);
    await last.close();
  });

  it("does not keep anybody from the catalog when a journal cannot be read", async () => {
    const { start, journal, troubles } = await scene();
    await mkdir(join(journal, "1.jsonl"), { recursive: true });
    await write(journal, "2.jsonl", line(2));
    const catalog = start();
    expect(await storedIds(catalog)).toEqual(idsOf([2]));
    expect(troubles).toMatchObject([
      {
        code: "failed",
        message: expect.stringMatching(/^cannot replay the catalog's journal .*\/1\.jsonl: EISDIR/),
        hint: "Check the rights on the journal and its directory, then run any jbackup command again.",
      },
    ]);
    await catalog.close();
  });

  it("does not keep anybody from the catalog when the directory cannot be listed", async () => {
    const { start, journal, troubles } = await scene();
    await writeFile(journal, "in the way");
    const catalog = start();
    expect(await storedIds(catalog)).toEqual([]);
    expect(troubles).toMatchObject([{ code: "failed", message: expect.stringMatching(/journal: ENOTDIR/) }]);
    await catalog.close();
  });
});
