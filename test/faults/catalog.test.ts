import { copyFileSync, cpSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

let server: TestPostgres;
const BACKUP = ["backup", "full", "--logical"];

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server?.stop();
});

beforeEach(async () => {
  await query(server.url(), "drop database if exists shop with (force)", "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) as note from generate_series(1, 3000) g",
  );
});

async function withSite(catalog: string | null, work: (site: TestSite) => Promise<void>): Promise<void> {
  const site = await makeSite({
    here: true,
    url: server.url("shop"),
    more: catalog === null ? [] : [`catalog: {url: "${catalog}"}`],
  });
  try {
    await work(site);
  } finally {
    await site.remove();
  }
}

const rowsOf = async (database: string): Promise<Record<string, string>> => {
  const { database: _, ...rows } = await contentOf(server.url(database));
  return rows;
};

async function expectRestorable(site: TestSite, reference: string): Promise<void> {
  await site.json(["restore", reference, "--into-db", "proof", "--reason", "proof"]);
  const rows = await rowsOf("proof");
  await query(server.url(), "drop database proof");
  expect(rows).toEqual(await rowsOf("shop"));
}

const journalOf = (site: TestSite): string =>
  filesBelow(join(site.home, "journal"))
    .filter((file) => file.endsWith(".jsonl"))
    .map((file) => readFileSync(file, "utf8"))
    .join("");

const idsIn = async (site: TestSite): Promise<string[]> =>
  (await site.json(["list"])).map(({ id }: { id: string }) => id);

/** Points the same site at another catalog. */
const useCatalog = (site: TestSite, url: string | null): Promise<void> =>
  site.configure(
    readFileSync(site.configFile, "utf8").replace(/^catalog: .*\n/m, "") +
      (url === null ? "" : `catalog: {url: "${url}"}\n`),
  );

/** While the catalog is away a backup and a restore work, and are remembered when it is back. */
async function expectNothingForgotten(site: TestSite, back: () => Promise<void>): Promise<void> {
  const ran = await site.run(...BACKUP, "--json");
  expect(ran.code).toBe(0);
  const backup = JSON.parse(ran.stdout);
  expect(ran.stderr).toContain("records go to the journal and are written later");
  expect(journalOf(site)).toContain(backup.id);
  await expectRestorable(site, backup.id);
  await expectRestorable(site, "latest");
  const listing = await site.run("list", "--json");
  expect(listing.code).toBe(1); // a listing that cannot be had is no empty list
  expect(JSON.parse(listing.stdout).error.code).toBe("catalog_unavailable");

  await back();
  const [listed] = await site.json(["list"]);
  expect(listed).toEqual(backup);
  expect((await site.json(["restores"])).map(({ status }: { status: string }) => status)).toEqual([
    "completed",
    "completed",
  ]);
  expect(journalOf(site)).toBe("");
}

describe("a catalog that is away", () => {
  test("because its server is down stops nothing, and catches up", async () => {
    await withSite("postgresql://nobody@127.0.0.1:1/catalog", async (site) => {
      await expectNothingForgotten(site, () => useCatalog(site, null));
    });
  });

  test("because its file is garbage stops nothing, and catches up", async () => {
    await withSite(null, async (site) => {
      const first = await site.json(BACKUP);
      const file = join(site.home, "catalog.db");
      for (const part of ["", "-wal", "-shm"]) rmSync(`${file}${part}`, { force: true });
      writeFileSync(file, Buffer.alloc(200_000, "no catalog at all "));
      await expectRestorable(site, first.id);
      rmSync(join(site.home, "journal"), { recursive: true });
      await expectNothingForgotten(site, async () => rmSync(file));
      expect(await idsIn(site)).not.toContain(first.id);
      expect((await site.json(["catalog", "rebuild"])).added).toBe(1);
      expect(await idsIn(site)).toContain(first.id);
    });
  });

  test("because its folder cannot be made stops nothing, and catches up", async () => {
    await withSite(null, async (site) => {
      writeFileSync(join(site.folder, "in-the-way"), "");
      await useCatalog(site, `sqlite:${join(site.folder, "in-the-way/catalog.db")}`);
      await expectNothingForgotten(site, () => useCatalog(site, null));
    });
  });

  test.runIf(canMount)("because its disk became read-only stops nothing, and catches up", async () => {
    using disk = mountSmallDisk("8m");
    await withSite(`sqlite:${join(disk.path, "catalog.db")}`, async (site) => {
      const first = await site.json(BACKUP);
      disk.makeReadOnly();
      const ran = await site.run(...BACKUP, "--json");
      expect(ran.code).toBe(0);
      const second = JSON.parse(ran.stdout);
      expect(journalOf(site)).toContain(second.id);
      await expectRestorable(site, second.id);
      await useCatalog(site, null);
      await site.json(["catalog", "rebuild"]);
      expect(await idsIn(site)).toEqual([second.id, first.id]);
    });
  });
});

test("a catalog that is lost comes back from one storage, and is not needed before that", async () => {
  await withSite(null, async (site) => {
    const ids = [(await site.json(BACKUP)).id, (await site.json(BACKUP)).id].reverse();
    const before = await site.json(["list"]);
    for (const part of ["", "-wal", "-shm"]) rmSync(join(site.home, `catalog.db${part}`), { force: true });
    await expectRestorable(site, ids[1]);
    expect(await idsIn(site)).toEqual([]);
    expect(await site.json(["catalog", "rebuild", "--from", "local"])).toMatchObject({ found: 2, added: 2 });
    expect(await idsIn(site)).toEqual(ids);
    expect(await site.json(["list"])).toEqual(before);
    await site.json(BACKUP); // the chain goes on where it was
    const sequences = (await site.json(["list"])).map(
      ({ metadata }: { metadata: { sequence: number } }) => metadata.sequence,
    );
    expect(sequences).toEqual([3, 2, 1]);
  });
});

test("a catalog of an older day does not hide what it cannot know", async () => {
  await withSite(null, async (site) => {
    const first = await site.json(BACKUP);
    const file = join(site.home, "catalog.db");
    const kept = join(site.folder, "old.db");
    expect(existsSync(`${file}-wal`)).toBe(false);
    copyFileSync(file, kept);
    const second = await site.json(BACKUP);
    rmSync(`${file}-wal`, { force: true });
    rmSync(`${file}-shm`, { force: true });
    copyFileSync(kept, file);
    expect(await idsIn(site)).toEqual([first.id]);
    await expectRestorable(site, second.id);
    expect((await site.json(["catalog", "rebuild"])).added).toBe(1);
    expect(await idsIn(site)).toEqual([second.id, first.id]);
    await expectRestorable(site, "latest");
  });
});

test("a catalog that lives in the database that is restored survives it", async () => {
  await withSite(server.url("shop"), async (site) => {
    const first = await site.json(BACKUP);
    const second = await site.json(BACKUP);
    await query(server.url("shop"), "delete from orders where id > 10");
    const restored = await site.json(["restore", first.id, "--reason", "test", "--confirm", "shop"]);
    expect(restored.status).toBe("completed");
    const [{ many } = { many: "" }] = await query(
      server.url("shop"),
      "select count(*)::text as many from orders",
    );
    expect(many).toBe("3000");
    // the restored catalog is of the moment of its own backup, which it remembers as still running
    await site.json(["restore", first.id, "--into-db", "proof", "--reason", "again"]);
    await query(server.url(), "drop database proof");
    await site.json(["catalog", "rebuild"]);
    const third = await site.json(BACKUP);
    const listed = await site.json(["list"]);
    expect(listed.map(({ id, status }: { id: string; status: string }) => ({ id, status }))).toEqual(
      [third, second, first].map(({ id }) => ({ id, status: "completed" })),
    );
    expect((await site.json(["restores"])).map(({ id }: { id: string }) => id)).toContain(restored.id);
  });
});

describe("the audit of a catalog that somebody writes to", () => {
  const tamper = (site: TestSite, statement: string): void => {
    const database = new DatabaseSync(join(site.home, "catalog.db"));
    database.exec(statement);
    database.close();
  };
  const pin = async (site: TestSite, ...reasons: string[]): Promise<void> => {
    for (const reason of reasons) await site.json(["pin", "latest", "--reason", reason]);
  };
  const auditOfDoctor = async (site: TestSite): Promise<{ status: string; message: string }[]> =>
    JSON.parse((await site.run("doctor", "--json")).stdout).checks.filter(
      ({ name }: { name: string }) => name === "audit",
    );

  test("shows that its end was cut off, that it was written anew, that it was emptied: signed manifests know better", async () => {
    await withSite(null, async (site) => {
      const first = await site.json(BACKUP);
      expect(first.metadata.auditHead).toMatchObject({ entries: 1 });
      await pin(site, "one", "two", "three");
      const second = await site.json(BACKUP);
      const sound = await site.json(["audit", "check"]);
      expect(sound).toMatchObject({
        ok: true,
        entries: 4,
        confirmedBy: { backupId: second.id, entries: 4, hash: sound.head },
        warnings: [],
      });
      expect(second.metadata.auditHead).toEqual({
        entries: 4,
        hash: sound.head,
        chain: first.metadata.auditHead.hash,
        catalog: first.metadata.auditHead.catalog,
      });
      expect(await auditOfDoctor(site)).toMatchObject([{ status: "ok" }]);

      tamper(site, "delete from audit where sequence > 2");
      const cut = await site.json(["audit", "check"], [4]);
      const problem = `the end of the audit was cut off: the signed manifest of ${second.label} knew 4 entries, and 2 are here`;
      expect(cut).toMatchObject({ ok: false, entries: 2, brokenAt: null, problems: [problem] });
      expect(cut.confirmedBy.backupId).toBe(first.id);
      const told = await site.run("audit", "check");
      expect([told.code, told.stdout]).toEqual([
        4,
        expect.stringMatching(
          /^The end of the audit was cut off: .*\nTry: find out who can write to the catalog, .*catalog rebuild/,
        ),
      ]);
      expect(await auditOfDoctor(site)).toMatchObject([{ status: "fail", message: problem }]);

      // no record of the second backup either: the storage has it
      tamper(site, `update backups set status = 'failed' where id = '${second.id}'`);
      expect((await site.json(["audit", "check"], [4])).problems).toEqual([problem]);

      await pin(site, "four", "five", "six");
      const anew = `the audit was written anew: the signed manifest of ${second.label} knew another entry 4 than the one among the 5 here`;
      expect((await site.json(["audit", "check"], [4])).problems).toEqual([anew]);
      await site.json(BACKUP); // a head of today does not cover it up
      expect((await site.json(["audit", "check"], [4])).problems).toEqual([anew]);

      tamper(site, "delete from audit");
      expect((await site.json(["audit", "check"], [4])).problems).toEqual([
        expect.stringMatching(/^the end of the audit was cut off: .* knew 5 entries, and 0 are here$/),
      ]);
      const away = join(site.folder, "away");
      renameSync(join(site.folder, "local"), away);
      const unasked = await site.json(["audit", "check"], [4]);
      expect(unasked.problems).toEqual([
        "the audit has no entry, and this site has backups, whose first job made one",
      ]);
      expect(unasked.storagesAway).toMatchObject([{ storage: "local" }]);
      renameSync(away, join(site.folder, "local"));
    });
  });

  test("lost with its catalog stays lost, and the rebuild says for good what manifests knew of it", async () => {
    await withSite(null, async (site) => {
      await site.json(BACKUP);
      await pin(site, "one", "two");
      const last = await site.json(BACKUP);
      for (const part of ["", "-wal", "-shm"]) rmSync(join(site.home, `catalog.db${part}`), { force: true });
      expect((await site.json(["audit", "check"], [4])).entries).toBe(0);
      const lost = { backupId: last.id, label: last.label, entries: 3 };
      expect(await site.json(["catalog", "rebuild"])).toMatchObject({ lostAudit: lost });
      const rebuilt = await site.json(["audit", "check"]);
      expect(rebuilt).toMatchObject({ ok: true, entries: 1, confirmedBy: null, gaps: [lost] });
      expect(rebuilt.warnings[0]).toMatch(
        /^entries from before the rebuild of \S+Z by \S+@\S+ are not here: the signed manifest of \S+ knew 3 of them$/,
      );
      expect((await site.run("audit", "check")).stdout).toContain(
        "Warning: entries from before the rebuild of ",
      );
      expect(await auditOfDoctor(site)).toMatchObject([{ status: "ok" }, { status: "warn" }]);
      // it is said once, and what comes later is held against it as before
      expect(await site.json(["catalog", "rebuild"])).toMatchObject({ lostAudit: null });
      const next = await site.json(BACKUP);
      expect(await site.json(["audit", "check"])).toMatchObject({ confirmedBy: { backupId: next.id } });
      tamper(site, "delete from audit where sequence > 1");
      expect(await site.json(["audit", "check"], [4])).toMatchObject({
        contradictedBy: [{ backupId: next.id, entries: 2 }],
      });
    });
  });

  test("of two homes on one host is one each: neither is held against the other, nor explained away by its rebuild", async () => {
    await withSite(null, async (site) => {
      const [first, second] = [site.home, join(site.folder, "home-of-another-user")];
      const at = (home: string): void => {
        site.environment.JBACKUP_HOME = home;
      };
      await site.json(BACKUP);
      cpSync(first, second, {
        recursive: true,
        filter: (path) => !/catalog|journal|chain|\.config$/.test(path),
      });
      at(second);
      const [theirs, pinned] = [await site.json(BACKUP), await site.json(BACKUP)];
      at(first);
      const mine = await site.json(BACKUP);
      for (const [home, label, count] of [
        [first, pinned.label, 2],
        [second, mine.label, 2],
      ] as const) {
        at(home);
        const checked = await site.json(["audit", "check"]);
        expect(checked).toMatchObject({ ok: true, problems: [], gaps: [] });
        expect(checked.warnings).toEqual([
          expect.stringMatching(
            new RegExp(`^${count} of the backups .*, ${label} the newest, were made with another`),
          ),
        ]);
        expect((await auditOfDoctor(site)).map(({ status }) => status)).not.toContain("fail");
        expect(await site.json(["catalog", "rebuild"])).toMatchObject({ lostAudit: null });
      }
      expect(theirs.metadata.auditHead.catalog).not.toBe(mine.metadata.auditHead.catalog);
      // one's own is held against it as before, rebuilt or not
      tamper({ ...site, home: second }, "delete from audit");
      expect((await site.json(["audit", "check"], [4])).contradictedBy[0]).toMatchObject({
        backupId: pinned.id,
      });
    });
  });

  test("is not held against a storage that is away, which is said", async () => {
    await withSite(null, async (site) => {
      await site.json(BACKUP);
      const text = readFileSync(site.configFile, "utf8");
      await site.configure(
        text.replace(
          "storages:\n",
          `storages:\n  - {name: gone, kind: local, path: ${site.folder}/not-mounted}\n`,
        ),
      );
      const checked = await site.json(["audit", "check"]);
      expect(checked).toMatchObject({ ok: true, storagesAway: [{ storage: "gone" }] });
      expect(checked.confirmedBy).not.toBeNull();
      expect(checked.warnings).toEqual([expect.stringMatching(/^storage gone was not asked: /)]);
    });
  });
});

test("a home is one site's: another one is refused there, and nothing of it is written", async () => {
  await withSite(null, async (site) => {
    const made = await site.json(BACKUP);
    const text = readFileSync(site.configFile, "utf8");
    const other = text.replace("site: test", "site: wiki").replace(/path: \S+/, `path: ${site.folder}/wiki}`);
    const before = filesBelow(site.home);
    await site.configure(other);
    for (const command of [BACKUP, ["list"], ["catalog", "migrate"], ["alerts"]]) {
      const { error } = await site.json(command, [14]);
      expect(error.message).toBe(`${site.home} is the home of site test, not of wiki`);
    }
    const examined = await site.json(["doctor"], [14]);
    expect(examined.checks).toMatchObject([
      { status: "fail", message: `${site.home} is the home of site test, not of wiki` },
    ]);
    expect(filesBelow(site.home)).toEqual(before);
    expect(existsSync(join(site.folder, "wiki"))).toBe(false);
    const elsewhere = join(site.folder, "home-wiki");
    expect((await site.start(BACKUP, { JBACKUP_HOME: elsewhere })).code).toBe(0);

    // the same site by another file
    const moved = join(site.folder, "moved.yaml");
    writeFileSync(moved, text);
    expect((await site.json(["list", "--config", moved])).map(({ id }: { id: string }) => id)).toEqual([
      made.id,
    ]);
    await site.json([...BACKUP, "--config", moved]);
  });
});
