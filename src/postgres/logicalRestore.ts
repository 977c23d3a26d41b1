import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { JBackupError } from "../domain/errors.js";
import { type HiddenFile, openHiddenFile } from "../sys/hiddenFile.js";
import { connect, libpqVariables, quoteName, quoteText, type Session, type Target } from "./connection.js";
import { countRows, type DatabaseFacts, serverFacts, type TableRows, userTables } from "./facts.js";
import { binariesFor } from "./logicalDump.js";
import { runTool, startTool, type ToolEnvironment, type ToolOptions } from "./tools.js";

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

/** Written as the database's comment while it is incomplete: what a killed run left is recognised by it. */
const HALF_RESTORED = "jbackup: restore in progress, do not use";

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

/** pg_dumpall quotes a name only where it must. */
const NAME = String.raw`("(?:[^"]|"")*"|[^\s";]+)`;
const OF_ROLE = new RegExp(`^(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) ${NAME}`);
const MEMBERSHIP = new RegExp(`^GRANT ${NAME} TO ${NAME}`);
const SHARED_GRANT = new RegExp(`^GRANT [A-Z, ]+ ON (?:TABLESPACE ${NAME}|PARAMETER [^ ]+) TO ${NAME}`);

const plainName = (written: string): string =>
  written.startsWith('"') ? written.slice(1, -1).replaceAll('""', '"') : written;

/** A script of pg_dumpall, statement by statement: comments and settings in it may hold line ends and semicolons. */
const statementsOf = (script: string): string[] =>
  script.match(/^(?!--|\\)[^\s'"](?:[^'";]|'[^']*'|"[^"]*")*;/gm) ?? [];

/** Creates the roles of the backup that this server lacks; existing ones are left as they are. */
export async function createMissingRoles(
  admin: Session,
  roles: string[],
  globals: string,
): Promise<string[]> {
  const present = new Set(
    (await admin.rows<{ name: string }>("select rolname as name from pg_roles")).map(({ name }) => name),
  );
  const missing = roles.filter((name) => !present.has(name));
  if (missing.length === 0) return [];
  const isMissing = (written: string | undefined): boolean => missing.includes(plainName(written ?? ""));
  const spaces = (await admin.rows<{ name: string }>("select spcname as name from pg_tablespace")).map(
    ({ name }) => name,
  );
  const statements = statementsOf(globals).flatMap((statement) => {
    if (isMissing(OF_ROLE.exec(statement)?.[1])) return [statement];
    const [, space, grantee] = SHARED_GRANT.exec(statement) ?? [];
    if (isMissing(grantee))
      return space === undefined || spaces.includes(plainName(space)) ? [statement] : [];
    const [, group, member] = MEMBERSHIP.exec(statement) ?? [];
    // a grantor may not exist here
    return isMissing(group) || isMissing(member) ? [statement.replace(/ GRANTED BY [^;]*;$/, ";")] : [];
  });
  await admin.run(`begin; ${statements.join("\n")} commit`);
  return missing;
}

/** A database that nobody but its owner and superusers can enter until it is complete. */
export async function createSideDatabase(admin: Session, name: string, facts: DatabaseFacts): Promise<void> {
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
  await admin.run(
    `create database ${quoteName(name)} template template0 encoding ${quoteText(facts.encoding)} ${locale.join(" ")}${where}`,
  );
  await admin.run(
    `revoke connect, temporary on database ${quoteName(name)} from public; comment on database ${quoteName(name)} is ${quoteText(HALF_RESTORED)}`,
  );
}

/** pg_restore into a database; its exit and what it prints are judged. */
export async function runRestore(
  run: RestoreRun,
  facts: DumpFacts,
  settings: RestoreSettings,
  spacesMissing: boolean,
): Promise<void> {
  const restoring = await binariesFor("pg_restore", facts.clientMajor, settings);
  const options: ToolOptions = {
    environment: settings.environment,
    variables: libpqVariables({ ...settings.target, database: run.database }, settings.user),
    signal: settings.signal,
  };
  const common = [...(spacesMissing ? ["--no-tablespaces"] : []), "--exit-on-error", "--no-password"];
  const parts =
    run.how === "rows-only" ? null : await partsOf(run, join(restoring.path, "pg_restore"), options);
  const lists = parts === null ? [] : await Promise.all(parts.map((part) => listFile(run.directory, part)));
  const selections = lists.length === 0 ? [[]] : lists.map(({ path }) => [`--use-list=${path}`]);
  try {
    if (run.how === "in-place") {
      const commands = selections.map((selection) => [...common, ...selection, "--file=-", run.file]);
      await replaceContent(commands, restoring.path, facts, settings, options);
      return;
    }
    const sections = run.how === "rows-only" ? ["--section=pre-data", "--section=data"] : [];
    for (const selection of selections)
      await runTool(
        join(restoring.path, "pg_restore"),
        [...common, ...sections, ...selection, `--jobs=${run.jobs}`, `--dbname=${run.database}`, run.file],
        options,
      );
  } finally {
    for (const list of lists) await list.close();
  }
}

const IS_EVENT_TRIGGER = /^\d+; \d+ \d+ (COMMENT - )?EVENT TRIGGER /;

/**
 * Event triggers watch every DDL statement that follows them, and pg_restore refreshes materialised views after or beside
 * them: they would forbid that, or write it down in a table that is already full. So they come alone, and last.
 */
async function partsOf(run: RestoreRun, restore: string, options: ToolOptions): Promise<string[][] | null> {
  const lines = (await runTool(restore, ["--list", run.file], options)).split("\n");
  if (!lines.some((line) => IS_EVENT_TRIGGER.test(line))) return null;
  return [
    lines.filter((line) => !IS_EVENT_TRIGGER.test(line)),
    lines.filter((line) => IS_EVENT_TRIGGER.test(line)),
  ];
}

async function listFile(directory: string, lines: string[]): Promise<HiddenFile> {
  const list = await openHiddenFile(directory);
  await list.write(
    (async function* () {
      yield Buffer.from(`${lines.join("\n")}\n`);
    })(),
  );
  return list;
}

/** Everything of the user's goes; the archive brings back what belongs there. Extensions return with their schemas. */
const EMPTY_DATABASE = `
do $empty$
declare name text;
begin
  for name in select subname from pg_subscription where subdbid = (select oid from pg_database where datname = current_database()) loop
    raise exception 'the database has the subscription %, which cannot be dropped in a transaction', name;
  end loop;
  for name in select evtname from pg_event_trigger loop execute format('drop event trigger if exists %I cascade', name); end loop;
  for name in select pubname from pg_publication loop execute format('drop publication if exists %I', name); end loop;
  for name in select extname from pg_extension where extname <> 'plpgsql' loop execute format('drop extension if exists %I cascade', name); end loop;
  for name in select fdwname from pg_foreign_data_wrapper loop execute format('drop foreign data wrapper if exists %I cascade', name); end loop;
  for name in select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' loop
    execute format('drop schema if exists %I cascade', name);
  end loop;
  -- as the server's own template has it
  create schema public;
  comment on schema public is 'standard public schema';
  if current_setting('server_version_num')::int >= 150000 then
    alter schema public owner to pg_database_owner;
    grant usage on schema public to public;
  else
    grant all on schema public to public;
  end if;
  perform lo_unlink(oid) from pg_largeobject_metadata;
end $empty$;
`;

/**
 * In one transaction: empty the database, then run the archive as a script. pg_restore --clean is not used because it
 * cannot drop partitions, and leaves behind what the backup does not know.
 */
async function replaceContent(
  commands: string[][],
  restorePath: string,
  facts: DumpFacts,
  settings: RestoreSettings,
  options: ToolOptions,
): Promise<void> {
  const { path } = await binariesFor("psql", facts.clientMajor, settings);
  const psql = startTool(join(path, "psql"), ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"], {
    ...options,
    input: "pipe",
  });
  psql.stdout.resume();
  const input = psql.stdin;
  if (input === null) throw new JBackupError("bug", "psql has no input");
  input.on("error", () => undefined); // psql ended early: its own exit says why
  input.write(`begin;\nset local client_min_messages = warning;\n${EMPTY_DATABASE}`);
  const feeding = (async () => {
    for (const args of commands) {
      const script = startTool(join(restorePath, "pg_restore"), args, options);
      await pipeline(script.stdout, input, { end: false });
      await script.done;
    }
    // only a script that is known to be whole is committed
    input.end("\ncommit;\n");
  })();
  feeding.catch(() => input.destroy());
  await Promise.race([psql.done, feeding.then(() => psql.done)]);
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

/** Owner, grants, settings and comment, as they were; the last step before the database gets its name. */
export async function dressDatabase(admin: Session, name: string, facts: DatabaseFacts): Promise<void> {
  const database = quoteName(name);
  const grants = facts.grants ?? [
    { grantee: null, privilege: "CONNECT", grantable: false },
    { grantee: null, privilege: "TEMPORARY", grantable: false },
  ];
  const statements = [
    `alter database ${database} owner to ${quoteName(facts.owner)}`,
    `alter database ${database} connection limit ${facts.connectionLimit}`,
    ...facts.settings.map(({ role, setting }) => {
      const [parameter = "", ...value] = setting.split("=");
      const whose =
        role === null
          ? `alter database ${database}`
          : `alter role ${quoteName(role)} in database ${database}`;
      return `${whose} set ${quoteName(parameter)} to ${settingValue(parameter, value.join("="))}`;
    }),
    ...grants.map(
      ({ grantee, privilege, grantable }) =>
        `grant ${privilege} on database ${database} to ${grantee === null ? "public" : quoteName(grantee)}${grantable ? " with grant option" : ""}`,
    ),
  ];
  await admin.run(`begin; ${statements.join("; ")}; commit`);
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
  comment: string | null,
): Promise<string | null> {
  const text = comment === null ? "null" : quoteText(comment);
  // the mark of an incomplete database goes in the same transaction: a kill leaves it marked, or finished
  const arrive = `alter database ${quoteName(side)} rename to ${quoteName(name)}; comment on database ${quoteName(name)} is ${text}`;
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

export const dropDatabase = (admin: Session, name: string): Promise<void> =>
  admin.run(`drop database if exists ${quoteName(name)} with (force)`);

/** Drops what killed restores left, and lets users back into a database that one had locked; answers what it did. */
export async function sweepHalfRestored(admin: Session): Promise<string[]> {
  // one without the mark and without content was being made just then: the mark comes right after the database
  const left = await admin.rows<{ name: string }>(
    `select datname as name from pg_database d where datname ~ '_jbackup_[0-9a-f]{8}$'
        and case coalesce(shobj_description(oid, 'pg_database'), '')
              when $1 then true
              when '' then has_database_privilege(oid, 'connect') and pg_database_size(oid) <=
                (select pg_database_size(t.oid) from pg_database t where t.datname = 'template0') + 1024 * 1024
              else false
            end`,
    [HALF_RESTORED],
  );
  for (const { name } of left) await dropDatabase(admin, name);
  return left.map(({ name }) => name);
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
