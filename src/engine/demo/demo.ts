import { createHash } from "node:crypto";
import { chmod, mkdtemp, open, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Backup, Restore } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../../postgres/postgres.js";
import type { Clock } from "../../sys/clock.js";
import { backupLogical } from "../backupLogical.js";
import { rebuildCatalog } from "../rebuildCatalog.js";
import { restore } from "../restore.js";
import type { Site } from "../site.js";
import { SHOP_SQL } from "./shop.js";

export interface DemoRequest {
  /** Where the demo's own folder is made, and removed again. */
  temporaryDirectory: string;
  clock: Clock;
  startCluster(): Promise<{ version: string; url(database: string): string; stop(): Promise<void> }>;
  openSite(configFile: string, home: string): Promise<Site>;
  /** Tells the story, a line at a time. */
  say(line: string): void;
}

export interface DemoResult {
  ok: true;
  durationMs: number;
  backup: Backup;
  restore: Restore;
  /** Tables whose rows were compared, and found equal to the last byte. */
  tablesCompared: number;
  rowsCompared: number;
}

const STORAGES = ["disk-a", "disk-b", "disk-c"];

/** The whole story on a throwaway PostgreSQL: back up, break, restore, prove. Leaves nothing behind. */
export async function runDemo({ clock, say, ...request }: DemoRequest): Promise<DemoResult> {
  const started = clock.monotonicMs();
  const cluster = await request.startCluster();
  say(`started a throwaway PostgreSQL ${cluster.version}; filling a shop with 40 tenants`);
  const home = await mkdtemp(join(request.temporaryDirectory, "jbackup-demo-"));
  try {
    const file = join(home, "jbackup.yaml");
    await writeFile(file, configFor(home, cluster.url("shop")));
    const told = await tellStory(() => request.openSite(file, home), say, home);
    return { ...told, durationMs: Math.round(clock.monotonicMs() - started) };
  } finally {
    await cluster.stop();
    await rm(home, { recursive: true, force: true });
  }
}

const configFor = (home: string, url: string): string =>
  [
    "site: demo",
    `database: {url: "${url}"}`,
    "storages:",
    ...STORAGES.map((name) => `  - {name: ${name}, kind: local, path: ${join(home, name)}}`),
    "",
  ].join("\n");

type OpenSite = () => Promise<Site>;

async function tellStory(
  open: OpenSite,
  say: DemoRequest["say"],
  home: string,
): Promise<Omit<DemoResult, "durationMs">> {
  const { backup, before } = await using(open, (site) => fillAndBackUp(site, say));
  await using(open, (site) => breakEverything(site, say, home, backup));
  const restored = await using(open, (site) => bringBack(site, say));
  return using(open, async (site) => {
    requireSame(before, await inShop(site, fingerprints));
    say(`proved: all ${before.length} tables are equal, row for row`);
    await rebuildCatalog(site, { from: "disk-b" });
    const known = await site.catalog.backups();
    say(`the catalog is rebuilt from disk-b: it lists ${known.map(({ label }) => label).join(", ")}`);
    return {
      ok: true,
      backup,
      restore: restored,
      tablesCompared: before.length,
      rowsCompared: rowsIn(before),
    };
  });
}

async function using<Result>(open: OpenSite, work: (site: Site) => Promise<Result>): Promise<Result> {
  const site = await open();
  try {
    return await work(site);
  } finally {
    await site.close();
  }
}

async function asAdmin(site: Site, sql: string): Promise<void> {
  const admin = await (await site.postgres()).admin();
  try {
    await admin.run(sql);
  } finally {
    await admin.close();
  }
}

async function fillAndBackUp(
  site: Site,
  say: DemoRequest["say"],
): Promise<{ backup: Backup; before: Fingerprint[] }> {
  await asAdmin(site, "create database shop");
  await inShop(site, (shop) => shop.run(SHOP_SQL));
  const before = await inShop(site, fingerprints);
  say(
    `the shop has ${before.length} tables with ${counted(rowsIn(before))} rows; each table is fingerprinted with SHA-256`,
  );
  const backup = await backupLogical(site, { note: "demo" });
  say(
    `backed up as ${backup.label}: ${megabytes(backup.rawBytes)} read once, sealed to ${megabytes(backup.storedBytes)}, stored in ${stored(backup).join(", ")}`,
  );
  return { backup, before };
}

async function breakEverything(
  site: Site,
  say: DemoRequest["say"],
  home: string,
  backup: Backup,
): Promise<void> {
  await asAdmin(site, "drop database shop");
  say("disaster 1: the database is dropped");
  await flipByte(join(home, "disk-a", backup.copies[0]?.path ?? "", "data"));
  say("disaster 2: a byte of the copy in disk-a is flipped");
  await site.close();
  for (const name of ["catalog.db", "catalog.db-wal", "catalog.db-shm"])
    await rm(join(home, name), { force: true });
  say("disaster 3: the catalog file is deleted");
}

async function bringBack(site: Site, say: DemoRequest["say"]): Promise<Restore> {
  const restored = await restore(
    site,
    {
      reference: "latest",
      mode: "full",
      intoDatabase: null,
      to: null,
      inPlace: false,
      onConflict: "skip",
      tables: [],
      reason: "demo",
      jobs: 4,
    },
    async () => undefined,
  );
  const seconds = ((restored.durationMs ?? 0) / 1000).toFixed(1);
  say(
    `restored ${counted(restored.rowsRestored)} rows in ${seconds} s; what was damaged in disk-a came from disk-b`,
  );
  return restored;
}

const rowsIn = (tables: Fingerprint[]): number => tables.reduce((sum, { rows }) => sum + rows, 0);
const counted = (rows: number): string => rows.toLocaleString("en");
const stored = (backup: Backup): string[] =>
  backup.copies.filter(({ status }) => status === "stored").map(({ storage }) => storage);
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

async function inShop<Result>(site: Site, work: (shop: Session) => Promise<Result>): Promise<Result> {
  const shop = await (await site.postgres()).connect();
  try {
    return await work(shop);
  } finally {
    await shop.close();
  }
}

interface Fingerprint {
  table: string;
  rows: number;
  sha256: string;
}

/** Every row of every table and materialised view, as text, in an order that depends on the rows alone. */
async function fingerprints(shop: Session): Promise<Fingerprint[]> {
  const tables = await shop.rows<{ name: string }>(
    "select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'app' and c.relkind in ('r', 'm') order by 1",
  );
  const found: Fingerprint[] = [];
  for (const { name } of tables) {
    const rows = await shop.rows<{ row: string }>(
      `select t::text as row from ${name} t order by t::text collate "C"`,
    );
    const hash = createHash("sha256");
    for (const { row } of rows) hash.update(`${row}\n`);
    found.push({ table: name, rows: rows.length, sha256: hash.digest("hex") });
  }
  return found;
}

function requireSame(before: Fingerprint[], after: Fingerprint[]): void {
  const same = (left: Fingerprint, right: Fingerprint | undefined): boolean =>
    left.rows === right?.rows && left.sha256 === right.sha256;
  const differing = before.filter(
    (table) =>
      !same(
        table,
        after.find((other) => other.table === table.table),
      ),
  );
  if (differing.length === 0 && before.length === after.length) return;
  throw new JBackupError(
    "verification_failed",
    `the restored shop differs in ${differing.map(({ table }) => table).join(", ")}`,
  );
}

async function flipByte(folder: string): Promise<void> {
  const [name] = await readdir(folder);
  if (name === undefined) throw new JBackupError("bug", `there is no object in ${folder}`);
  const path = join(folder, name);
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
