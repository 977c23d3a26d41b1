import { JBackupError } from "../domain/errors.js";
import type { Session } from "./connection.js";
import type { Pending } from "./mergeCompare.js";
import type { Written } from "./mergeWrite.js";

/** Triggers would rewrite rows and write elsewhere. Where the role may, they keep silent; foreign keys are then checked by query. */
export async function silenceTriggers(target: Session): Promise<boolean> {
  const [role] = await target.rows<{ super: string; version: string }>(
    "select current_setting('is_superuser') as super, current_setting('server_version_num') as version",
  );
  let may = role?.super === "on";
  if (!may && Number(role?.version) >= 150_000) {
    const [granted] = await target.rows<{ may: string }>(
      "select has_parameter_privilege('session_replication_role', 'set')::text as may",
    );
    may = granted?.may === "true";
  }
  if (may) await target.run("set local session_replication_role = replica");
  return may;
}

/** Written tables and their partitions. */
const oidsOf = (all: Pending[]): string[] =>
  all.filter(({ inserts, updates }) => inserts + updates > 0).map(({ table }) => table.oid);

/** Tables that rows are deleted from. */
const emptiedOids = (all: Pending[]): string[] =>
  all.filter(({ deletes = 0 }) => deletes > 0).map(({ table }) => table.oid);

const within = (column: string, nth = 1): string =>
  `coalesce(pg_partition_root(${column})::oid, ${column}) = any($${nth}::oid[])`;

/** A rule turns the merge's own statements into others: then nothing that it counts or checks would hold. */
export async function refuseRules(target: Session, all: Pending[], isSilent: boolean): Promise<void> {
  const rules = await target.rows<{ name: string }>(
    `select r.rulename || ' on ' || r.ev_class::regclass::text as name from pg_rewrite r
      where r.ev_class = any($1::oid[]) and r.ev_type in ('2', '3', '4') and r.ev_enabled = any($2) order by 1`,
    [[...oidsOf(all), ...emptiedOids(all)], isSilent ? ["A", "R"] : ["A", "O"]],
  );
  if (rules.length === 0) return;
  throw new JBackupError(
    "target_refused",
    `the rules ${rules.map(({ name }) => name).join(", ")} would rewrite the merge's statements`,
    {
      hint: isSilent
        ? "disable them with ALTER TABLE ... DISABLE RULE for the time of the merge"
        : "run the restore as a superuser, or disable them with ALTER TABLE ... DISABLE RULE for the time of the merge",
    },
  );
}

/** Which of the user's triggers fired on what was written, and which did not. */
export async function triggerWarnings(target: Session, all: Pending[], isSilent: boolean): Promise<string[]> {
  const rows = await target.rows<{ name: string; fired: string }>(
    `select t.tgname || ' on ' || t.tgrelid::regclass::text as name, (t.tgenabled = 'A' or t.tgenabled = $2)::text as fired
       from pg_trigger t where (${within("t.tgrelid")} and t.tgtype & 20 <> 0 or ${within("t.tgrelid", 3)} and t.tgtype & 8 <> 0)
        and not t.tgisinternal and t.tgenabled <> 'D'
        and not (t.tgenabled = 'R' and $2 = 'O') and coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0'
      order by 1`,
    [oidsOf(all), isSilent ? "R" : "O", emptiedOids(all)],
  );
  return rows.map(({ name, fired }) =>
    fired === "true"
      ? `the trigger ${name} fired: what it does besides is not part of the backup`
      : `the trigger ${name} was kept silent, as in any restore: what it would write elsewhere is not written`,
  );
}

interface Touched {
  oid: string;
  name: string;
  inserted: number;
  updated: number;
  deleted: number;
}

/** What this transaction wrote so far, in every table, by PostgreSQL's own count. */
export async function writtenSoFar(target: Session): Promise<Map<string, Touched>> {
  const rows = await target.rows<Record<keyof Touched, string>>(
    `select root.oid::text as oid, root.oid::regclass::text as name, sum(s.n_tup_ins)::text as inserted,
            sum(s.n_tup_upd)::text as updated, sum(s.n_tup_del)::text as deleted
       from pg_stat_xact_user_tables s cross join lateral (select coalesce(pg_partition_root(s.relid)::oid, s.relid) as oid) root
      where s.schemaname !~ '^pg_' group by 1, 2 having sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del) > 0 order by 2`,
  );
  return new Map(
    rows.map((row) => [
      row.oid,
      {
        oid: row.oid,
        name: row.name,
        inserted: Number(row.inserted),
        updated: Number(row.updated),
        deleted: Number(row.deleted),
      },
    ]),
  );
}

/** Triggers and cascades write behind the merge's back; what they did is in PostgreSQL's count and not in ours. */
export async function sideEffects(
  target: Session,
  before: Map<string, Touched>,
  written: Written[],
): Promise<string[]> {
  const found: string[] = [];
  for (const table of (await writtenSoFar(target)).values()) {
    const then = before.get(table.oid);
    const ours = written.find(({ oid }) => oid === table.oid);
    const beyond = (what: "inserted" | "updated" | "deleted"): number =>
      table[what] - (then?.[what] ?? 0) - (ours?.[what] ?? 0);
    const shown = (["inserted", "updated", "deleted"] as const)
      .filter((what) => beyond(what) > 0)
      .map((what) => `${beyond(what)} ${what}`);
    if (shown.length > 0)
      found.push(
        `triggers or cascades changed further rows of ${table.name}, not counted here: ${shown.join(", ")}`,
      );
  }
  return found;
}
