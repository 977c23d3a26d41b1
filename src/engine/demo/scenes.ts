import { chmod, mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Backup, Restore } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../../postgres/postgres.js";
import { archiveWal } from "../archiveWal.js";
import { backupPhysical } from "../backupPhysical.js";
import { backupTenants } from "../backupTenants.js";
import { rebuildCatalog } from "../rebuildCatalog.js";
import { restore } from "../restore.js";
import { restoreTenants } from "../restoreTenant.js";
import type { Site } from "../site.js";
import { createKeys } from "../siteKeys.js";
import { verify } from "../verify.js";
import {
  type Fingerprint,
  folderPrint,
  folderPrints,
  othersPrints,
  type Proof,
  prove,
  sha256,
  shopPrints,
  tenantPrints,
} from "./proof.js";
import { deleteTenantSql, SHOP_SQL, TRADE_SQL, UNLUCKY } from "./shop.js";
import {
  asAdmin,
  counted,
  DISKS,
  diskOf,
  inDatabase,
  inShop,
  megabytes,
  momentOf,
  type Stage,
  seconds,
  withSite,
} from "./stage.js";

export interface Scene {
  restore: Restore;
  proofs: Proof[];
}

const rowsIn = (prints: Fingerprint[]): number => prints.reduce((sum, { rows }) => sum + rows, 0);
const NOTHING_TO_CONFIRM = async (): Promise<void> => undefined;

/** A shop with forty tenants: backed up whole, each tenant by itself, and from then on every change. */
export async function safety(stage: Stage): Promise<Backup> {
  const { say } = stage;
  return withSite(stage, async (site) => {
    await createKeys(site.format, join(stage.home, "keys"));
    await asAdmin(site, "create database shop");
    const rows = await inShop(site, async (shop) => {
      await shop.run(SHOP_SQL);
      return rowsIn(await shopPrints(shop));
    });
    say(`A shop with 40 tenants in shared tables: ${counted(rows)} rows, row-level security.`);
    const full = await backupPhysical(site, { note: "demo", fresh: false });
    say(
      `Full backup ${full.label}: ${megabytes(full.rawBytes)} read once, sealed to ${megabytes(full.storedBytes)}, in ${storedIn(full)}, ${seconds(full.durationMs)}.`,
    );
    const { backups } = await backupTenants(site, { tenants: "all", note: "demo", acceptShrunken: false });
    say(`Tenant backups: ${backups.length} active tenants, each with a key of its own, all of one moment.`);
    await archive(site);
    say("WAL: archived up to now, and from here on.");
    return full;
  });
}

const storedIn = (backup: Backup): string =>
  backup.copies
    .filter(({ status }) => status === "stored")
    .map(({ storage }) => storage)
    .join(", ");

const archive = (site: Site): Promise<Backup> => archiveWal(site, { note: "demo", follow: false });

/** `DROP TABLE` on the wrong terminal: the whole database as it was just before. */
export async function droppedTable(stage: Stage): Promise<Scene> {
  const { say } = stage;
  return withSite(stage, async (site) => {
    const { moment, expected } = await inShop(site, async (shop) => {
      await shop.run(TRADE_SQL);
      const before = await shopPrints(shop);
      const at = await momentOf(shop);
      await shop.run("drop table app.sale_items cascade");
      return { moment: at, expected: before };
    });
    say("Disaster 1: after more business, somebody runs DROP TABLE app.sale_items CASCADE.");
    await archive(site);
    const restored = await restore(
      site,
      {
        ...{ reference: "latest", mode: "full", to: moment, intoDatabase: "shop_before", inPlace: false },
        ...{ onConflict: "skip", tables: [], reason: "demo: a table was dropped", jobs: 4 },
      },
      NOTHING_TO_CONFIRM,
    );
    say(`Recovered to ${moment}, beside the live database, in ${seconds(restored.durationMs)}.`);
    const seen = await inDatabase(site, "shop_before", shopPrints);
    await asAdmin(
      site,
      "alter database shop rename to shop_broken",
      "alter database shop_before rename to shop",
      "drop database shop_broken",
    );
    return { restore: restored, proofs: [prove("every table, as it was before the DROP", expected, seen)] };
  });
}

/** One tenant is deleted while all others go on: its rows come back as they were, and nobody else goes back with it. */
export async function deletedTenant(stage: Stage): Promise<Scene> {
  const { say } = stage;
  return withSite(stage, async (site) => {
    const before = await inShop(site, async (shop) => {
      await shop.run(TRADE_SQL);
      const tenant = await unlucky(shop);
      const expected = await tenantPrints(shop, tenant);
      const moment = await momentOf(shop);
      await shop.run(deleteTenantSql(tenant));
      await shop.run(TRADE_SQL);
      const gone = await tenantPrints(shop, tenant);
      if (rowsIn(gone) !== 0) throw new JBackupError("bug", "the demo's tenant was not deleted");
      return { tenant, expected, moment, others: await othersPrints(shop, tenant) };
    });
    const { tenant, expected, moment, others } = before;
    say(
      `Disaster 2: tenant "${UNLUCKY.name}" is deleted, ${counted(rowsIn(expected))} rows; the other 39 go on selling.`,
    );
    await archive(site);
    const { restore: restored } = await restoreTenants(
      site,
      {
        ...{ reference: "latest", to: moment, tenants: [tenant], mode: "full", reason: "demo: deleted" },
        ...{ createMissing: true, updateExisting: false, deleteNew: false, asTenant: null, tables: [] },
        ...{ withShared: false, triggers: "off", prove: "counters", expectPlan: null, intoDatabase: null },
        savesFirst: true,
      },
      async () => ({ isSeen: false, mayOverwrite: [tenant] }),
    );
    say(`Brought back to ${moment}, in the live database, in ${seconds(restored.durationMs)}.`);
    return inShop(site, async (shop) => ({
      restore: restored,
      proofs: [
        prove("the tenant, as it was before", expected, await tenantPrints(shop, tenant)),
        prove("all others, as they are now", others, await othersPrints(shop, tenant)),
      ],
    }));
  });
}

async function unlucky(shop: Session): Promise<string> {
  const [row] = await shop.rows<{ id: string }>(
    `select id::text from app.tenants where company_name = '${UNLUCKY.name}'`,
  );
  return row?.id ?? "";
}

/** One disk dies, another one lies: both become what they were, from the third. */
export async function lostStorage(stage: Stage): Promise<{ proofs: Proof[] }> {
  const { say } = stage;
  const prints = async (): Promise<Fingerprint[]> =>
    Promise.all(DISKS.map(async (disk) => folderPrint(disk, await folderPrints(diskOf(stage, disk)))));
  const expected = await prints();
  await rm(diskOf(stage, "disk-b"), { recursive: true });
  await mkdir(diskOf(stage, "disk-b"));
  await flipByte(diskOf(stage, "disk-a"));
  say(
    "Disaster 3: disk-b died, an empty one stands in its place; and one byte of disk-a is not what it was.",
  );
  return withSite(stage, async (site) => {
    const request = { reference: null, all: true, level: "stored", share: null, storage: null } as const;
    const report = await verify(site, { ...request, heal: true });
    say(
      `Verified ${counted(report.checked)} objects, healed ${counted(report.healed.length)}, ${report.problems.length} left wrong, in ${seconds(report.durationMs)}.`,
    );
    return { proofs: [prove("every object of every disk", expected, await prints())] };
  });
}

async function flipByte(disk: string): Promise<void> {
  const names = ((await readdir(disk, { recursive: true })) as string[]).filter((name) =>
    /full\/.*data\/.*\.jbk$/.test(name),
  );
  const [name] = names.sort();
  if (name === undefined) throw new JBackupError("bug", `there is no object in ${disk}`);
  const path = join(disk, name);
  await chmod(path, 0o600);
  const file = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, 5_000);
    byte[0] = (byte[0] ?? 0) ^ 1;
    await file.write(byte, 0, 1, 5_000);
  } finally {
    await file.close();
  }
}

/** The index of everything is gone: any one storage gives it back. */
export async function lostCatalog(stage: Stage): Promise<{ proofs: Proof[] }> {
  const { say, home } = stage;
  const known = async (site: Site): Promise<Fingerprint[]> => {
    const backups = (await site.catalog.backups()).filter(({ kind }) => kind !== "wal");
    const lines = backups.map(({ id, checksum, kind }) => `${kind} ${id} ${checksum}`).sort();
    return [{ what: "full and tenant backups", rows: lines.length, sha256: sha256(lines.join("\n")) }];
  };
  const expected = await withSite(stage, known);
  for (const name of ["catalog.db", "catalog.db-wal", "catalog.db-shm"])
    await rm(join(home, name), { force: true });
  say("Disaster 4: the catalog, the index of all backups, is deleted.");
  return withSite(stage, async (site) => {
    await rebuildCatalog(site, { from: "disk-c" });
    say("Rebuilt from disk-c alone.");
    return { proofs: [prove("the list of backups", expected, await known(site))] };
  });
}
