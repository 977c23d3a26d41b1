import { mkdir, open, readdir, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { TenantFacts, TenantTableFacts } from "../../domain/tenantBackup.js";
import { recordAudit } from "../audit.js";
import { findBackup } from "../findBackup.js";
import { openBackup } from "../openBackup.js";
import type { Site } from "../site.js";
import { csvOfCopy } from "./csv.js";
import { newestOfTenant } from "./newest.js";

export interface ExportRequest {
  tenantId: string;
  /** A tenant's backup; null: its newest one. */
  reference: string | null;
  format: "csv" | "sql";
  directory: string;
}

export interface Exported {
  tenantId: string;
  backupId: string;
  label: string;
  snapshotAt: string;
  directory: string;
  files: { name: string; rows: number; bytes: number }[];
}

/** A dry run reads the tenant out of the past and keeps what it read as a backup of it. */
const firstOf = (tenantId: string): string =>
  `jbackup backup tenant --tenant ${tenantId} makes one; of an earlier moment, jbackup restore --tenant ${tenantId} --to TIME --dry-run makes one, whose id jbackup list --kind tenant --tenant ${tenantId} shows`;

/** A tenant's data for its owner: one file a table, in a folder of its own. */
export async function exportTenantFiles(site: Site, request: ExportRequest): Promise<Exported> {
  const found =
    request.reference === null
      ? await newestOfTenant(site, request.tenantId, firstOf(request.tenantId))
      : await findBackup(site, request.reference);
  const { body } = found.manifest;
  if (body.kind !== "tenant" || body.tenantId !== request.tenantId)
    throw new JBackupError("usage", `${body.label} is no backup of tenant ${request.tenantId}`, {
      hint: `jbackup list --kind tenant --tenant ${request.tenantId} shows its backups`,
    });
  const opened = await openBackup(site, found);
  const facts = opened.contents.detail.tenant as TenantFacts;
  const isNew = await emptyDirectory(request.directory);
  const files: Exported["files"] = [];
  const names = request.format === "csv" ? csvNames(facts) : sqlNames(facts);
  try {
    for (const [at, { name, table }] of names.entries()) {
      site.report.progress({ task: "writing tables", done: at, total: names.length, unit: "tables" });
      const content = opened.read(opened.entry(table?.entry ?? name));
      const bytes = await writeNew(
        join(request.directory, name),
        table !== null && request.format === "csv"
          ? csvOfCopy(
              content,
              table.columns.map((column) => column.name),
            )
          : content,
      );
      files.push({ name, rows: table?.rows ?? 0, bytes });
    }
  } catch (error) {
    // half of a tenant's data looks like all of it
    const written = files.map(({ name }) => name);
    await takeBack(request.directory, written, names, isNew);
    throw error;
  } finally {
    site.report.progressEnd();
  }
  const { backupId, label } = body;
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  await recordAudit(site, "tenant.export", facts.id, { backup: label, directory: request.directory, rows });
  return {
    tenantId: facts.id,
    backupId,
    label,
    snapshotAt: facts.snapshotAt,
    directory: request.directory,
    files,
  };
}

interface FileName {
  name: string;
  table: TenantTableFacts | null;
}

/** Letters that no file's name should have were replaced, so that two tables may come to the same. */
export function csvNames({ tables }: TenantFacts): FileName[] {
  const taken = new Set<string>();
  return tables
    .filter((table) => table.class !== "shared" || table.rows > 0)
    .map((table) => {
      const plain = table.entry.replace(/^tables\/\d+-/, "").replace(/\.copy$/, "");
      let name = `${plain}.csv`;
      // some disks take capital letters for small ones
      for (let nth = 2; taken.has(name.toLowerCase()); nth++) name = `${plain}-${nth}.csv`;
      taken.add(name.toLowerCase());
      return { name, table };
    });
}

const sqlNames = ({ tables }: TenantFacts): FileName[] => [
  ...tables.map((table) => ({ name: table.entry, table })),
  { name: "load.sql", table: null },
];

/** Answers whether it had to be made. */
async function emptyDirectory(directory: string): Promise<boolean> {
  const made = await mkdir(directory, { recursive: true, mode: 0o700 });
  if ((await readdir(directory)).length === 0) return made !== undefined;
  throw new JBackupError("target_refused", `${directory} is not empty`, {
    hint: "name a new folder with --out",
  });
}

/** Whatever else stands there is somebody's. */
async function takeBack(
  directory: string,
  written: string[],
  names: FileName[],
  isNew: boolean,
): Promise<void> {
  for (const name of written) await rm(join(directory, name), { force: true });
  const below = new Set(names.map(({ name }) => dirname(name)).filter((folder) => folder !== "."));
  const folders = [...below].map((folder) => join(directory, folder));
  for (const folder of isNew ? [...folders, directory] : folders) await rmdir(folder).catch(() => undefined);
}

/** A tenant's rows are for few eyes. */
async function writeNew(path: string, content: AsyncIterable<Uint8Array>): Promise<number> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await open(path, "wx", 0o600);
  try {
    let bytes = 0;
    for await (const chunk of content) {
      await file.writeFile(chunk);
      bytes += chunk.length;
    }
    await file.sync();
    return bytes;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}
