/** What a base backup leaves out, as PostgreSQL's documentation of the low-level API says. */

/** Their content belongs to the running server; the folders themselves are kept. */
const EMPTIED = new Set([
  "pg_wal",
  "pg_replslot",
  "pg_dynshmem",
  "pg_notify",
  "pg_serial",
  "pg_snapshots",
  "pg_stat_tmp",
  "pg_subtrans",
]);

const LEFT_OUT = new Set([
  "postmaster.pid",
  "postmaster.opts",
  "current_logfiles",
  "current_logfiles.tmp",
  "postgresql.auto.conf.tmp",
  "backup_label",
  "backup_label.old",
  "tablespace_map",
  "tablespace_map.old",
  "backup_manifest",
  "backup_manifest.tmp",
  "recovery.signal",
  "standby.signal",
]);

export const isEmptied = (folder: string): boolean => EMPTIED.has(folder);

const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

export function isLeftOut(path: string): boolean {
  const name = nameOf(path);
  return (
    LEFT_OUT.has(path) ||
    name.startsWith("pgsql_tmp") ||
    name.startsWith("pg_internal.init") ||
    name === "lost+found" ||
    isTemporaryRelation(path)
  );
}

const RELATION =
  /^(?:global|base\/\d+|pg_tblspc\/\d+\/PG_[^/]+\/\d+)\/(t\d+_)?(\d+)(?:_(fsm|vm|init))?(?:\.(\d+))?$/;

const isTemporaryRelation = (path: string): boolean => RELATION.exec(path)?.[1] !== undefined;

export interface RelationFile {
  /** What the files of one relation have in common: folder and number. */
  relation: string;
  fork: "main" | "fsm" | "vm" | "init";
  segment: number;
}

/** A file of a table, index or the like: its pages have checksums. */
export function relationFile(path: string): RelationFile | null {
  const match = RELATION.exec(path);
  if (!match || match[1] !== undefined) return null;
  return {
    relation: `${path.slice(0, path.lastIndexOf("/"))}/${match[2]}`,
    fork: (match[3] ?? "main") as RelationFile["fork"],
    segment: Number(match[4] ?? 0),
  };
}

/** Unlogged relations are empty after a recovery: only the fork they begin anew from is kept. */
export function withoutUnlogged<File extends { path: string }>(files: File[]): File[] {
  const unlogged = new Set(
    files.flatMap(({ path }) => {
      const file = relationFile(path);
      return file?.fork === "init" ? [file.relation] : [];
    }),
  );
  if (unlogged.size === 0) return files;
  return files.filter(({ path }) => {
    const file = relationFile(path);
    return file === null || file.fork === "init" || !unlogged.has(file.relation);
  });
}
