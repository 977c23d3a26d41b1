import type { ServerCheckup } from "../domain/serverDiagnosis.js";
import type { Session } from "./connection.js";
import { serverFacts } from "./facts.js";

type Row = Record<string, string | null>;

const isTrue = (value: string | null | undefined): boolean => value === "true";

/** What of `walHealth` is part of it. */
interface Health {
  slot: { lagBytes: number; isActive: boolean; status: string } | null;
  archiver: ServerCheckup["archiver"];
  pgWal: { filledPercent: number | null };
}

/** Everything that must be true of the server and of our role on it, asked in few questions. Nothing is changed. */
export async function readCheckup(
  session: Session,
  ownSlot: string,
  health: Health,
  nowMs: () => number,
): Promise<ServerCheckup> {
  const server = await serverFacts(session);
  const [row] = await session.rows<Row>(
    `select r.rolsuper::text as super, (r.rolsuper or r.rolreplication)::text as replication, (r.rolsuper or r.rolbypassrls)::text as bypass,
            pg_has_role(current_user, 'pg_read_all_settings', 'member')::text as settings,
            ${server.major >= 14 ? "pg_has_role(current_user, 'pg_read_all_data', 'member')" : "r.rolsuper"}::text as reads,
            current_setting('wal_level') as level, current_setting('max_wal_senders') as senders, current_setting('data_checksums') as checksums,
            (current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots))::text as slots
       from pg_roles r where r.rolname = current_user`,
  );
  const denied = await session.rows<Row>(
    `select p.oid::regprocedure::text as name from pg_proc p
      where p.pronamespace = 'pg_catalog'::regnamespace
        and p.proname in ('pg_backup_start', 'pg_backup_stop', 'pg_start_backup', 'pg_stop_backup')
        and not has_function_privilege(p.oid, 'execute') order by 1`,
  );
  const idle = await session.rows<Row>(
    `select s.slot_name as name, (h.lsn - s.restart_lsn)::bigint::text as lag
       from pg_replication_slots s,
            (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as lsn) h
      where not s.active and not s.temporary and s.slot_name <> $1 order by 1`,
    [ownSlot],
  );
  const isReader = isTrue(row?.reads) || (await readsEverything(session));
  return {
    version: server.version,
    major: server.major,
    inRecovery: server.inRecovery,
    role: session.address.user,
    isSuperuser: isTrue(row?.super),
    mayReplicate: isTrue(row?.replication),
    mayReadSettings: isTrue(row?.settings),
    mayReadAll: isReader,
    bypassesRls: isTrue(row?.bypass),
    deniedFunctions: denied.flatMap(({ name }) => (name === null || name === undefined ? [] : [name])),
    walLevel: row?.level ?? "",
    senders: Number(row?.senders ?? 0),
    slotsFree: Number(row?.slots ?? 0),
    hasChecksums: row?.checksums === "on",
    ownSlot: health.slot,
    otherSlots: idle.map(({ name, lag }) => ({ name: name ?? "", lagBytes: Number(lag ?? 0) })),
    archiver: health.archiver,
    walFilledPercent: health.pgWal.filledPercent,
    clockApartMs: await clockApart(session, nowMs),
  };
}

/** Granted table by table, as the owner of a database has it. */
async function readsEverything(session: Session): Promise<boolean> {
  const [row] = await session.rows<Row>(
    `select (not exists (
       select from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
          and not (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))))::text as all`,
  );
  return isTrue(row?.all);
}

/** The question takes time, too: the middle between asking and hearing is when it was answered. */
async function clockApart(session: Session, nowMs: () => number): Promise<number> {
  const askedMs = nowMs();
  const [row] = await session.rows<Row>(
    "select (extract(epoch from clock_timestamp()) * 1000)::bigint::text as ms",
  );
  return Number(row?.ms) - (askedMs + nowMs()) / 2;
}
