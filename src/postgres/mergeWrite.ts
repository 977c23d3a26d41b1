import { JBackupError } from "../domain/errors.js";
import { quoteName, type Session } from "./connection.js";
import type { ForeignKey } from "./mergeCatalog.js";
import type { Pending } from "./mergeCompare.js";
import { columnList, conflict, list, rowsOf, sameKey, write } from "./mergeSql.js";
import { emptied, planSteps } from "./mergeSteps.js";

/** Rows that the merge's own statements wrote, so that what others wrote meanwhile can be told apart. */
export interface Written {
  oid: string;
  inserted: number;
  updated: number;
  deleted: number;
}

/** Writes what is pending; with triggers silenced, rows that take over each other's values are deleted and inserted anew. */
export async function writePending(
  target: Session,
  all: Pending[],
  keys: ForeignKey[],
  isSilent: boolean,
  onTable: (pending: Pending) => void,
): Promise<Written[]> {
  const steps = planSteps(all, keys, isSilent);
  const written = new Map(
    all.map(({ table: { oid } }) => [oid, { oid, inserted: 0, updated: 0, deleted: 0 }] as const),
  );
  const into = ({ table }: Pending): Written => written.get(table.oid) as Written;
  const updating = all.filter(({ updates }) => updates > 0);

  if (isSilent) {
    for (const pending of updating) {
      onTable(pending);
      into(pending).deleted += await guarded(pending, () => deleteReplaced(target, pending));
      into(pending).updated += await guarded(pending, () => update(target, pending));
      into(pending).inserted += await guarded(pending, () => insertReplaced(target, pending));
    }
  }
  for (const { pending, later } of steps) {
    onTable(pending);
    into(pending).inserted += await guarded(pending, () => insert(target, pending, later));
  }
  for (const { pending, later } of steps) {
    if (later.length > 0)
      into(pending).updated += await guarded(pending, () => fillIn(target, pending, later));
  }
  if (!isSilent) {
    for (const pending of updating) {
      onTable(pending);
      into(pending).updated += await guarded(pending, () => update(target, pending));
    }
  }
  return [...written.values()];
}

/** What PostgreSQL refuses, named by table and constraint; a trigger may withhold rows, which is no success either. */
async function guarded(
  pending: Pending,
  run: () => Promise<[wrote: number, wanted: number]>,
): Promise<number> {
  const { shown } = pending.table;
  try {
    const [wrote, wanted] = await run();
    if (wrote === wanted) return wrote;
    throw conflict(
      [`only ${wrote} of ${rowsOf(wanted, shown)} were written: a trigger withheld the others`],
      "run the restore as a superuser, whose merge keeps triggers silent",
    );
  } catch (error) {
    throw refusal(error, shown);
  }
}

/** Integrity violations (class 23) as conflicts; anything else as it came. */
export function refusal(error: unknown, shown: string): unknown {
  const cause = (error as Error).cause as
    | { code?: string; constraint?: string; detail?: string; message?: string }
    | undefined;
  if (!cause?.code?.startsWith("23")) return error;
  return new JBackupError("conflict", `${shown} does not take the rows of the backup: ${cause.message}`, {
    hint: "nothing was changed; restore beside with --into-db to look at the rows",
    cause: error,
    details: { constraint: cause.constraint ?? null },
  });
}

const name = ({ table }: Pending): string => table.from.replace(/^only /, "");

async function insert(target: Session, pending: Pending, later: ForeignKey[]): Promise<[number, number]> {
  const { table, rows, inserts } = pending;
  // an identity that the backup does not know is given by the live table
  const columns = table.columns.filter((column) => column.identity === "" || table.shared.includes(column));
  const empty = new Set(later.flatMap((key) => emptied(key, table.key?.parts ?? [])));
  const values = columns.map((column) => (empty.has(column.name) ? "null" : `s.${quoteName(column.name)}`));
  const wrote = await write(
    target,
    `insert into ${name(pending)} ${columnList(columns)} overriding system value
     select ${values.join(", ")} from ${rows} s where s.jbackup_action = 'insert' and s.jbackup_left is null`,
  );
  return [wrote, inserts];
}

async function fillIn(
  target: Session,
  { table, rows }: Pending,
  later: ForeignKey[],
): Promise<[number, number]> {
  if (!table.key) return [0, 0];
  const names = [...new Set(later.flatMap((key) => emptied(key, table.key?.parts ?? [])))].map(quoteName);
  const pending = `s.jbackup_action = 'insert' and s.jbackup_left is null and num_nonnulls(${names.map((column) => `s.${column}`).join(", ")}) > 0`;
  const [row] = await target.rows<{ many: string }>(
    `select count(*)::text as many from ${rows} s where ${pending}`,
  );
  const wrote = await write(
    target,
    `update ${table.from} t set ${names.map((column) => `${column} = s.${column}`).join(", ")} from ${rows} s where ${sameKey(table.key, "t", "s")} and ${pending}`,
  );
  return [wrote, Number(row?.many)];
}

async function update(
  target: Session,
  { table, rows, updates, replaces }: Pending,
): Promise<[number, number]> {
  const settable = table.shared.filter(({ identity }) => identity !== "always");
  if (!table.key || settable.length === 0) return [0, updates - replaces];
  const settings = settable
    .map((column) => `${quoteName(column.name)} = s.${quoteName(column.name)}`)
    .join(", ");
  const wrote = await write(
    target,
    `update ${table.from} t set ${settings} from ${rows} s where s.jbackup_action = 'update' and ${sameKey(table.key, "t", "s")}`,
  );
  return [wrote, updates - replaces];
}

async function deleteReplaced(
  target: Session,
  { table, rows, replaces }: Pending,
): Promise<[number, number]> {
  if (!table.key || replaces === 0) return [0, 0];
  const wrote = await write(
    target,
    `delete from ${table.from} t using ${rows} s where s.jbackup_action = 'replace' and ${sameKey(table.key, "t", "s")}`,
  );
  return [wrote, replaces];
}

async function insertReplaced(target: Session, pending: Pending): Promise<[number, number]> {
  if (pending.replaces === 0) return [0, 0];
  const { columns } = pending.table;
  const wrote = await write(
    target,
    `insert into ${name(pending)} (${list(columns)}) overriding system value
     select ${list(columns, "s")} from ${pending.rows} s where s.jbackup_action = 'replace'`,
  );
  return [wrote, pending.replaces];
}
