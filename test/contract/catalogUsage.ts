import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Catalog } from "../../src/catalog/catalog.js";
import type { Backup, Copy } from "../../src/domain/backup.js";
import { eachBackup } from "../../src/engine/eachBackup.js";
import { lastOfEachTenant } from "../../src/engine/tenants/lastOfEach.js";
import { type CatalogPlace, open } from "./catalog.js";
import { backupNumber } from "./catalogRecords.js";

const STORAGES = ["b2", "local", "r2"];

const someCopies = fc.uniqueArray(
  fc.record({
    storage: fc.constantFrom(...STORAGES),
    kind: fc.constant("local" as const),
    status: fc.constantFrom<Copy["status"]>("stored", "missing", "damaged", "removed"),
    path: fc.constant("backups"),
    bytes: fc.nat({ max: 10_000 }),
    verifiedAt: fc.constant(null),
  }),
  { selector: ({ storage }) => storage },
);
const someBackup = fc
  .tuple(
    fc.nat({ max: 12 }),
    fc.constantFrom<Backup["status"]>("completed", "verified", "failed"),
    fc.constantFrom(null, backupNumber(1).id),
    someCopies,
  )
  .map(([number, status, parentId, copies]) =>
    number < 4
      ? backupNumber(number, { kind: "wal", copies })
      : backupNumber(number, {
          kind: "tenant",
          tenantId: `t${number % 3}`,
          status,
          parentId,
          copies,
        }),
  );

/** The same, counted from all the records there are. */
function countedFrom(backups: Backup[]): Record<string, unknown> {
  const copies = backups.flatMap(({ kind, copies: own }) => own.map((copy) => ({ ...copy, of: kind })));
  return Object.fromEntries(
    STORAGES.map((storage) => {
      const here = copies.filter((copy) => copy.storage === storage);
      const count = (status: string): number =>
        here.filter((copy) => copy.of !== "wal" && copy.status === status).length;
      const bytes = here
        .filter(({ status }) => status === "stored" || status === "damaged")
        .reduce((sum, copy) => sum + copy.bytes, 0);
      return [
        storage,
        { stored: count("stored"), missing: count("missing"), damaged: count("damaged"), bytes },
      ];
    }),
  );
}

async function useOf(catalog: Catalog): Promise<Record<string, unknown>> {
  const nothing = { stored: 0, missing: 0, damaged: 0, bytes: 0 };
  const found = await catalog.storageUse("2000-01-01");
  return Object.fromEntries(
    STORAGES.map((name) => {
      const { stored, missing, damaged, bytes } = found.find(({ storage }) => storage === name) ?? nothing;
      return [name, { stored, missing, damaged, bytes }];
    }),
  );
}

/** What is kept along with the records must always be what counting them would give. */
export function catalogUsage(fresh: () => Promise<CatalogPlace>): void {
  let place: CatalogPlace;
  let catalog: Catalog;
  beforeAll(async () => {
    place = await fresh();
    catalog = await open(place);
  });
  afterAll(async () => {
    await catalog.close();
    await place.close();
  });

  it("is what counting every copy gives, whatever is saved over what, and so are the last ones of tenants", () =>
    fc.assert(
      fc.asyncProperty(fc.array(someBackup, { minLength: 1, maxLength: 6 }), async (backups) => {
        await catalog.saveBackups(backups);
        const all = await catalog.backups();
        expect(await useOf(catalog)).toEqual(countedFrom(all));
        const own = all
          .filter(({ kind, status, parentId }) => kind === "tenant" && status !== "failed" && !parentId)
          .sort((a, b) => (a.id < b.id ? 1 : -1));
        const last = ["t0", "t1", "t2"].flatMap((id) => own.find(({ tenantId }) => tenantId === id) ?? []);
        for (const limit of [1, 2, 3, 10]) {
          const pages: Backup[][] = [];
          for await (const page of lastOfEachTenant(catalog, limit)) pages.push(page);
          expect(pages.flat()).toEqual(last);
          for (const page of pages.slice(0, -1)) expect(page).toHaveLength(limit);
        }
        expect(await catalog.lastOfTenants(["t1", "nobody"])).toEqual(
          last.filter(({ tenantId }) => tenantId === "t1"),
        );
      }),
      { numRuns: 60 },
    ));

  it("are listed page by page as all at once, also those of the same millisecond", async () => {
    const own = await fresh();
    const paged = await open(own);
    const { createdAt } = backupNumber(3);
    await paged.saveBackups(
      Array.from({ length: 9 }, (_, number) =>
        backupNumber(number, number > 1 && number < 7 ? { createdAt } : {}),
      ),
    );
    const all = await paged.backups({ status: ["completed", "verified"] });
    expect(all).toHaveLength(9);
    for (const limit of [1, 2, 4, 9, 10]) {
      const found: Backup[] = [];
      for await (const one of eachBackup(paged, { status: ["completed", "verified"] }, limit))
        found.push(one);
      expect(found).toEqual(all);
    }
    await paged.close();
    await own.close();
  });

  it("is so as well when several save the same backups at the same moment", async () => {
    const own = await fresh();
    const users = [await open(own), await open(own), await open(own)];
    const rounds = fc.sample(fc.array(someBackup, { minLength: 2, maxLength: 6 }), { numRuns: 30, seed: 11 });
    await Promise.all(
      users.map(async (user, who) => {
        for (const [turn, backups] of rounds.entries()) if (turn % 3 === who) await user.saveBackups(backups);
      }),
    );
    const [one] = users as [Catalog];
    expect(await useOf(one)).toEqual(countedFrom(await one.backups()));
    for (const user of users) await user.close();
    await own.close();
  });

  it("is counted from what a storage was seen to hold", async () => {
    const own = await fresh();
    const here = await open(own);
    await here.saveBackups([backupNumber(1)]);
    const at = new Date().toISOString();
    await here.saveMeasure({ storage: "local", bytes: 5_000, at });
    await here.saveBackups([backupNumber(2)]);
    const [, local] = await here.storageUse("2000-01-01");
    const day = at.slice(0, 10);
    expect(local).toEqual({
      storage: "local",
      stored: 2,
      missing: 0,
      damaged: 0,
      bytes: 6_024,
      measuredAt: at,
      days: [{ day, bytes: 6_024 }],
    });
    expect((await here.storageUse("2999-01-01")).map(({ days }) => days)).toEqual([[], [], []]);
    await here.close();
    await own.close();
  });

  it("is counted once when a catalog of an earlier version is brought up to date", async () => {
    const own = await fresh();
    await (await open(own)).close();
    const older = await open(own);
    await older.saveBackups([
      backupNumber(1),
      backupNumber(100_000, { kind: "wal" }),
      backupNumber(200_000, { copies: [] }),
    ]);
    await older.close();
    for (const table of ["storage_usage", "storage_days"]) await own.run(`drop table ${own.table(table)}`);
    for (const index of ["backups_unusable", "restores_unfinished", "backups_last_of_tenant"])
      await own.run(`drop index ${own.table(index)}`);
    for (const table of ["backups", "restores"])
      await own.run(`create index ${table}_status on ${own.table(table)} (status)`);
    await own.run(`alter table ${own.table("job_requests")} drop column signature`);
    await own.run(`delete from ${own.table("migrations")} where name >= '0003'`);
    const catalog3 = await open(own);
    const counted = { stored: 1, missing: 0, damaged: 0, bytes: 2_048 };
    expect(await useOf(catalog3)).toEqual({ b2: counted, local: counted, r2: counted });
    const [use] = await catalog3.storageUse("2000-01-01");
    expect(use?.days).toEqual([
      { day: "2026-11-20", bytes: 1_024 },
      { day: "2026-11-21", bytes: 2_048 },
    ]);
    await catalog3.close();
    await own.close();
  });
}
