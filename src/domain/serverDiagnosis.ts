import { type Finding, type FindingStatus, finding, gigabytes, judgeClock } from "./diagnosis.js";

/** What the server was asked about itself and about the role that jbackup connects as. */
export interface ServerCheckup {
  version: string;
  major: number;
  inRecovery: boolean;
  role: string;
  isSuperuser: boolean;
  mayReplicate: boolean;
  mayReadSettings: boolean;
  mayReadAll: boolean;
  bypassesRls: boolean;
  deniedFunctions: string[];
  walLevel: string;
  senders: number;
  slotsFree: number;
  hasChecksums: boolean;
  ownSlot: { lagBytes: number; isActive: boolean; status: string } | null;
  otherSlots: { name: string; lagBytes: number }[];
  archiver: { lastFailed: string | null; lastFailedAt: string | null; lastArchivedAt: string | null } | null;
  walFilledPercent: number | null;
  clockApartMs: number;
}

export const OLDEST_MAJOR = 13;
export const NEWEST_MAJOR = 18;
const IDLE_SLOT_BYTES = 1e9;
const FILLED = { warn: 60, fail: 80 };

export interface ServerWish {
  /** Whether this site archives WAL, by its schedule or because it has. */
  archives: boolean;
  hasTenants: boolean;
}

export function judgeServer(server: ServerCheckup, wish: ServerWish): Finding[] {
  const of = (name: string, status: FindingStatus, message: string, hint: string | null = null): Finding =>
    finding("server", name, status, message, hint);
  return [
    judgeVersion(server),
    ...judgeRights(server, wish),
    ...judgeWal(server, wish),
    server.hasChecksums
      ? of("checksums", "ok", "data checksums are on: damaged pages show while they are backed up")
      : of(
          "checksums",
          "warn",
          "data checksums are off: a damaged page is backed up without a word",
          "stop the server once and run pg_checksums --enable --pgdata DATA_DIRECTORY",
        ),
    judgeClock("server", "the server", server.clockApartMs),
  ];
}

function judgeVersion({ version, major, inRecovery }: ServerCheckup): Finding {
  const what = `PostgreSQL ${version}${inRecovery ? ", a standby" : ""}`;
  if (major < OLDEST_MAJOR)
    return {
      ...finding(
        "server",
        "version",
        "fail",
        `${what} is older than ${OLDEST_MAJOR}, the oldest that physical backups know`,
        "upgrade it; until then jbackup backup full --logical works",
      ),
      exit: 16,
    };
  if (major > NEWEST_MAJOR)
    return finding(
      "server",
      "version",
      "warn",
      `${what} is newer than ${NEWEST_MAJOR}, the newest that this jbackup was tested with`,
      "look for a newer jbackup, and prove a restore: jbackup dr run server-lost --drill",
    );
  return finding("server", "version", "ok", `${what} answers, and is supported`);
}

function judgeRights(server: ServerCheckup, { hasTenants }: ServerWish): Finding[] {
  const { role } = server;
  if (server.isSuperuser)
    return [finding("server", "rights", "ok", `the role ${role} is a superuser, and may do all it needs`)];
  const missing: [boolean, string, string][] = [
    [
      server.mayReplicate,
      "may not replicate, so neither WAL nor files can be read",
      `alter role ${role} replication`,
    ],
    [server.mayReadSettings, "may not read the server's settings", `grant pg_monitor to ${role}`],
    [
      server.deniedFunctions.length === 0,
      `may not call ${server.deniedFunctions.join(" and ")}`,
      `grant execute on function ${server.deniedFunctions.join(", ")} to ${role}`,
    ],
    [
      server.mayReadAll,
      "may not read every table, which logical backups need",
      `grant pg_read_all_data to ${role}`,
    ],
  ];
  const lacking = missing.filter(([has]) => !has);
  const findings = lacking.map(([, what, grant]) =>
    finding("server", "rights", "fail", `the role ${role} ${what}`, `as a superuser: ${grant}`),
  );
  if (!server.bypassesRls)
    findings.push(
      finding(
        "server",
        "rls",
        hasTenants ? "fail" : "warn",
        `row-level security may hide rows from the role ${role}: such tables are refused by logical${hasTenants ? " and tenant" : ""} backups`,
        `as a superuser: alter role ${role} bypassrls`,
      ),
    );
  return findings.length > 0
    ? findings
    : [finding("server", "rights", "ok", `the role ${role} has every right it needs`)];
}

function judgeWal(server: ServerCheckup, { archives }: ServerWish): Finding[] {
  const of = (name: string, status: FindingStatus, message: string, hint: string | null = null): Finding =>
    finding("server", name, status, message, hint);
  const isMinimal = server.walLevel === "minimal";
  const findings = [
    isMinimal
      ? of(
          "wal",
          "fail",
          "wal_level is minimal: neither physical backups nor points in time are possible",
          "alter system set wal_level = replica, then restart the server",
        )
      : server.senders < 2
        ? of(
            "wal",
            "fail",
            `max_wal_senders is ${server.senders}: there is no connection left to stream a backup and WAL`,
            "alter system set max_wal_senders = 10, then restart the server",
          )
        : of("wal", "ok", `wal_level is ${server.walLevel}, and ${server.senders} connections may stream it`),
    ...(isMinimal ? [] : judgeSlots(server, archives)),
  ];
  const { archiver, walFilledPercent: filled } = server;
  const failing = archiver?.lastFailedAt && (archiver.lastArchivedAt ?? "") < archiver.lastFailedAt;
  if (failing)
    findings.push(
      of(
        "archiver",
        "fail",
        `archive_command fails, last at ${archiver.lastFailedAt} for ${archiver.lastFailed}: pg_wal fills up`,
        "look into the server's log; jbackup wal status shows what is stored",
      ),
    );
  else if (archiver !== null) findings.push(of("archiver", "ok", "archive_command works"));
  if (filled !== null && filled >= FILLED.warn)
    findings.push(
      of(
        "pg_wal",
        filled >= FILLED.fail ? "fail" : "warn",
        `pg_wal has used ${filled} % of what it may`,
        "run jbackup backup wal and look at what it says",
      ),
    );
  return findings;
}

function judgeSlots({ ownSlot, otherSlots, slotsFree }: ServerCheckup, archives: boolean): Finding[] {
  const of = (status: FindingStatus, message: string, hint: string | null = null): Finding =>
    finding("server", "slots", status, message, hint);
  const idle = otherSlots
    .filter(({ lagBytes }) => lagBytes >= IDLE_SLOT_BYTES)
    .map(({ name, lagBytes }) =>
      of(
        "warn",
        `the replication slot ${name}, which nobody uses, holds ${gigabytes(lagBytes)} of WAL back`,
        `drop it if it is not needed any more: select pg_drop_replication_slot('${name}')`,
      ),
    );
  if (ownSlot?.status === "lost")
    return [
      ...idle,
      of(
        "fail",
        "our replication slot has lost WAL that was not stored",
        "begin anew: jbackup backup full, then jbackup backup wal",
      ),
    ];
  if (ownSlot !== null && ownSlot.lagBytes >= IDLE_SLOT_BYTES)
    return [
      ...idle,
      of(
        "warn",
        `our replication slot holds ${gigabytes(ownSlot.lagBytes)} of WAL back that is not stored yet`,
        "jbackup backup wal stores it; see who runs it: jbackup schedule show",
      ),
    ];
  if (ownSlot !== null)
    return [
      ...idle,
      of("ok", `our replication slot holds ${gigabytes(ownSlot.lagBytes)} of WAL until it is stored`),
    ];
  if (slotsFree < 1)
    return [
      ...idle,
      of(
        "fail",
        "every replication slot of the server is taken",
        "alter system set max_replication_slots = 10 and restart the server, or drop one that nobody uses",
      ),
    ];
  return archives
    ? [
        ...idle,
        of(
          "warn",
          "there is no replication slot of ours yet: the server may throw WAL away before it is stored",
          "jbackup backup wal makes it",
        ),
      ]
    : idle;
}
