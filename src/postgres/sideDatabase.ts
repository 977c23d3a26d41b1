import { JBackupError } from "../domain/errors.js";
import { connect, plainName, quoteName, quoteText, type Session, type Target } from "./connection.js";
import { countRows, type DatabaseFacts, serverFacts, type TableRows, userTables } from "./facts.js";
import { halfRestoredMark, type RestoringSite, whileNobodySweeps } from "./halfRestored.js";
import { requireRoles } from "./missingRoles.js";
import type { ToolEnvironment } from "./tools.js";

export interface RestoreSettings {
  target: Target;
  user: string;
  environment: ToolEnvironment;
  binDirectory: string | "auto";
  signal: AbortSignal;
}

/** What a logical backup says about itself, as far as restoring it needs to know. */
export interface DumpFacts {
  serverMajor: number;
  clientMajor: number;
  database: DatabaseFacts;
  roles: string[];
  tablespaces: string[];
  extensions: string[];
}

export interface RestoreRun {
  /** The archive in a file that pg_restore can open several times. */
  file: string;
  database: string;
  jobs: number;
  /** Where pg_restore may be handed a list of what to restore. */
  directory: string;
  how: "beside" | "rows-only" | "in-place";
}

const databaseExists = async (admin: Session, name: string): Promise<boolean> =>
  (await admin.rows("select 1 as found from pg_database where datname = $1", [name])).length > 0;

/** Checks that need no change: refused here means that nothing was touched. */
export async function checkTarget(admin: Session, facts: DumpFacts): Promise<string[]> {
  const server = await serverFacts(admin);
  if (server.inRecovery) {
    throw new JBackupError("target_refused", "the server is a standby, which accepts no writes", {
      hint: "name the primary in database.url, or promote the standby first",
    });
  }
  if (server.major < facts.serverMajor) {
    throw new JBackupError(
      "version_mismatch",
      `the backup is of PostgreSQL ${facts.serverMajor}, but the server is PostgreSQL ${server.version}`,
      { hint: `restore into PostgreSQL ${facts.serverMajor} or newer` },
    );
  }
  await requireRoles(admin, facts.roles);
  const available = await admin.rows<{ name: string }>("select name from pg_available_extensions");
  const missing = facts.extensions.filter((name) => !available.some((extension) => extension.name === name));
  if (missing.length > 0) {
    throw new JBackupError("environment", `the server lacks the extensions ${missing.join(", ")}`, {
      hint: "install the packages that bring them (postgresql-contrib, for instance), then try again",
    });
  }
  const spaces = await admin.rows<{ name: string }>("select spcname as name from pg_tablespace");
  const lost = facts.tablespaces.filter((name) => !spaces.some((space) => space.name === name));
  return lost.length === 0
    ? []
    : [`tablespaces ${lost.join(", ")} do not exist here: everything goes to the default one`];
}

/** A database that nobody but its owner and superusers can enter until it is complete. */
export async function createSideDatabase(
  admin: Session,
  name: string,
  facts: DatabaseFacts,
  by: RestoringSite,
): Promise<void> {
  const { major } = await serverFacts(admin);
  const locale = [`lc_collate ${quoteText(facts.collate)}`, `lc_ctype ${quoteText(facts.ctype)}`];
  if (facts.provider === "i" && facts.locale !== null)
    locale.push("locale_provider icu", `icu_locale ${quoteText(facts.locale)}`);
  if (facts.provider === "b" && facts.locale !== null)
    locale.push("locale_provider builtin", `builtin_locale ${quoteText(facts.locale)}`);
  if (facts.provider === "c" && major >= 15) locale.push("locale_provider libc");
  const [space] = await admin.rows<{ name: string }>(
    "select quote_ident(spcname) as name from pg_tablespace where spcname = $1 and spcname <> 'pg_default'",
    [facts.tablespace ?? "pg_default"],
  );
  const where = space === undefined ? "" : ` tablespace ${space.name}`;
  await whileNobodySweeps(admin, async () => {
    await admin.run(
      `create database ${quoteName(name)} template template0 encoding ${quoteText(facts.encoding)} ${locale.join(" ")}${where}`,
    );
    await admin.run(
      `revoke connect, temporary on database ${quoteName(name)} from public; comment on database ${quoteName(name)} is ${quoteText(halfRestoredMark(by))}`,
    );
  });
}

export async function countTarget(settings: RestoreSettings, database: string): Promise<TableRows[]> {
  const session = await connect({ ...settings.target, database }, settings.user);
  try {
    await session.run("set row_security = off");
    return await countRows(session, await userTables(session));
  } finally {
    await session.close();
  }
}

/** Fresh statistics: without them the first queries after a restore are slow. */
export async function analyzeTarget(settings: RestoreSettings, database: string): Promise<void> {
  const session = await connect({ ...settings.target, database }, settings.user);
  try {
    await session.run("analyze");
  } finally {
    await session.close();
  }
}

/** The limits and settings that it had. They let nobody in: that is left to the step that gives it its name. */
export async function dressDatabase(admin: Session, name: string, facts: DatabaseFacts): Promise<void> {
  const database = quoteName(name);
  const statements = [
    `alter database ${database} connection limit ${facts.connectionLimit}`,
    ...facts.settings.map(({ role, setting }) => {
      const [parameter = "", ...value] = setting.split("=");
      const whose =
        role === null
          ? `alter database ${database}`
          : `alter role ${quoteName(role)} in database ${database}`;
      return `${whose} set ${quoteName(parameter)} to ${settingValue(parameter, value.join("="))}`;
    }),
  ];
  await admin.run(`begin; ${statements.join("; ")}; commit`);
}

/** Owner, grants and comment as they were: with them come the users. */
function opening(name: string, facts: DatabaseFacts): string[] {
  const database = quoteName(name);
  const grants = facts.grants ?? [
    { grantee: null, privilege: "CONNECT", grantable: false },
    { grantee: null, privilege: "TEMPORARY", grantable: false },
  ];
  return [
    `alter database ${database} owner to ${quoteName(facts.owner)}`,
    ...grants.map(
      ({ grantee, privilege, grantable }) =>
        `grant ${privilege} on database ${database} to ${grantee === null ? "public" : quoteName(grantee)}${grantable ? " with grant option" : ""}`,
    ),
    `comment on database ${database} is ${facts.comment === null ? "null" : quoteText(facts.comment)}`,
  ];
}

/** Settings that hold lists are stored with each item quoted as a name, and are set with each as a text. */
const LISTS = new Set([
  "search_path",
  "temp_tablespaces",
  "session_preload_libraries",
  "local_preload_libraries",
  "shared_preload_libraries",
  "unix_socket_directories",
]);

const settingValue = (parameter: string, value: string): string => {
  if (!LISTS.has(parameter.toLowerCase())) return quoteText(value);
  const items = value.match(/"(?:[^"]|"")*"|[^,\s][^,]*/g) ?? [""];
  return items.map((item) => quoteText(plainName(item.trim()))).join(", ");
};

/** Gives the finished database its name. The one that had it is renamed in the same transaction: there is always exactly one. */
export async function swapIn(
  admin: Session,
  side: string,
  name: string,
  keepAs: string,
  facts: DatabaseFacts,
): Promise<string | null> {
  // the mark of an incomplete database goes in the same transaction: a kill leaves it marked and closed, or finished
  const arrive = [
    `alter database ${quoteName(side)} rename to ${quoteName(name)}`,
    ...opening(name, facts),
  ].join("; ");
  if (!(await databaseExists(admin, name))) {
    await endSessions(admin, side);
    await admin.run(`begin; ${arrive}; commit`);
    return null;
  }
  await admin.run(`alter database ${quoteName(name)} allow_connections false`);
  try {
    await endSessions(admin, name);
    await endSessions(admin, side);
    await admin.run(
      `begin; alter database ${quoteName(name)} rename to ${quoteName(keepAs)}; ${arrive}; commit`,
    );
  } catch (error) {
    await admin.run("rollback");
    await admin.run(`alter database ${quoteName(name)} allow_connections true`);
    throw error;
  }
  await admin.run(`alter database ${quoteName(keepAs)} allow_connections true`);
  return keepAs;
}

async function endSessions(admin: Session, database: string): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const left = await admin.rows(
      "select pg_terminate_backend(pid)::text as ended from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
      [database],
    );
    if (left.length === 0) return;
    await admin.run("select pg_sleep(0.1)");
  }
  throw new JBackupError("target_refused", `sessions on the database "${database}" could not be ended`, {
    hint: "look for them in pg_stat_activity, end them, then run the restore again",
  });
}

/** A kill between locking the old database and the swap leaves it closed to users: open it again. */
export async function reopenClosed(admin: Session, name: string): Promise<boolean> {
  const closed = await admin.rows(
    "select 1 as found from pg_database where datname = $1 and not datallowconn",
    [name],
  );
  if (closed.length > 0) await admin.run(`alter database ${quoteName(name)} allow_connections true`);
  return closed.length > 0;
}

export { databaseExists };
