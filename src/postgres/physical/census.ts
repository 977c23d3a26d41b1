import type { Census } from "../../domain/census.js";
import type { Session } from "../connection.js";
import { shownTable } from "../facts.js";

/** From statistics alone: nothing is counted while a backup waits. */
export async function takeCensus(session: Session): Promise<Census> {
  const databases = await session.rows<{ name: string; bytes: string | null }>(
    `select datname as name,
            case when has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'member')
                 then pg_database_size(oid)::text end as bytes
       from pg_database where datallowconn order by 1`,
  );
  const tables = await session.rows<{ schema: string; name: string; rows: string }>(
    `select n.nspname as schema, c.relname as name,
            greatest(pg_stat_get_live_tuples(c.oid), c.reltuples::bigint, 0)::text as rows
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and c.relpersistence = 'p'
        and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      order by 1, 2`,
  );
  return {
    databases: databases.map(({ name, bytes }) => ({ name, bytes: Number(bytes ?? 0) })),
    tables: tables.map(({ rows, ...table }) => ({ table: shownTable(table), rows: Number(rows) })),
  };
}
