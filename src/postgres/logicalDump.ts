import { once } from "node:events";
import { join } from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import { connect, libpqVariables, type Session, type Target } from "./connection.js";
import {
  countRows,
  type DatabaseFacts,
  databaseFacts,
  filteredTables,
  notCarried,
  qualified,
  type ServerFacts,
  serverFacts,
  type TableName,
  type TableRows,
  userTables,
} from "./facts.js";
import {
  type BinDirectory,
  findBinDirectories,
  startTool,
  type ToolEnvironment,
  type ToolOptions,
} from "./tools.js";

export interface DumpSettings {
  target: Target;
  user: string;
  environment: ToolEnvironment;
  binDirectory: string | "auto";
  signal: AbortSignal;
}

export interface LogicalDump {
  server: ServerFacts;
  database: DatabaseFacts;
  /** Major version of the pg_dump that makes it: pg_restore must not be older. */
  clientMajor: number;
  roles: string[];
  tablespaces: string[];
  extensions: string[];
  tables: number;
  warnings: string[];
  /** Roles and tablespaces, as SQL. */
  globals(): AsyncIterable<Buffer>;
  /** The custom-format archive, uncompressed. Ends only when pg_dump is known to have succeeded. */
  archive(): AsyncIterable<Buffer>;
  /** Rows per table in the very snapshot that the archive holds: asked for once the archive has begun. */
  rowCounts(onTable: (done: number) => void): Promise<TableRows[]>;
  close(): Promise<void>;
}

/** The programs that fit a server: its own version, else the nearest newer one. */
export async function binariesFor(
  program: string,
  major: number,
  settings: { environment: ToolEnvironment; binDirectory: string | "auto" },
): Promise<BinDirectory> {
  const found = await findBinDirectories(program, settings.environment, settings.binDirectory);
  const nearestMajor = Math.min(...found.map((candidate) => candidate.major).filter((one) => one >= major));
  const fitting = found.find((candidate) => candidate.major === nearestMajor);
  if (fitting) return fitting;
  if (found[0]) {
    throw new JBackupError(
      "version_mismatch",
      `${program} ${found[0].major} is older than the server, PostgreSQL ${major}`,
      {
        hint: `install postgresql-client-${major}, or set database.binDirectory to the folder of a ${program} of version ${major} or newer`,
      },
    );
  }
  const place = settings.binDirectory === "auto" ? "on this machine" : `in ${settings.binDirectory}`;
  throw new JBackupError("environment", `${program} was not found ${place}`, {
    hint: `install postgresql-client-${major}, or set database.binDirectory to the folder that holds ${program}`,
  });
}

/** Locks first, snapshot second: a table truncated or rewritten in between would otherwise be dumped empty. */
async function openSnapshot(session: Session): Promise<{ snapshot: string; tables: TableName[] }> {
  for (let attempt = 1; ; attempt++) {
    const tables = await userTables(session);
    try {
      await session.run(
        "begin transaction isolation level repeatable read, read only; set local lock_timeout = '60s'",
      );
      if (tables.length > 0)
        await session.run(
          `lock table ${tables.map((table) => `only ${qualified(table)}`).join(", ")} in access share mode`,
        );
      const [row] = await session.rows<{ snapshot: string }>("select pg_export_snapshot() as snapshot");
      if (!row) throw new JBackupError("bug", "PostgreSQL exported no snapshot");
      return { snapshot: row.snapshot, tables: await userTables(session) };
    } catch (error) {
      await session.run("rollback");
      const state = ((error as Error).cause as { code?: string } | undefined)?.code;
      // a table dropped between listing and locking: list again
      if (state === "42P01" && attempt < 5) continue;
      if (state === "55P03") {
        throw new JBackupError("postgres_failed", "a table stayed locked by somebody else for 60 s", {
          hint: "look for long ALTER TABLE, TRUNCATE or LOCK statements in pg_stat_activity, then try again",
          cause: error,
        });
      }
      throw error;
    }
  }
}

async function checkReadable(session: Session): Promise<void> {
  const hidden = await filteredTables(session);
  if (hidden.length === 0) return;
  throw new JBackupError(
    "postgres_denied",
    `row-level security hides rows of ${hidden.slice(0, 5).join(", ")}${hidden.length > 5 ? ` and ${hidden.length - 5} more` : ""} from user "${session.address.user}"`,
    {
      hint: `a backup must see every row: ALTER ROLE "${session.address.user}" BYPASSRLS, or name another role in database.url`,
    },
  );
}

/**
 * Everything is locked by our own session already, so pg_dump only ever waits behind somebody who waits for us, with all
 * of the application behind him: that one is let through, and the dump begins again from a newer snapshot.
 */
const DUMP_LOCK_WAIT = "3s";
const MOST_SNAPSHOTS = 5;

const isLockTimeout = (error: unknown): boolean =>
  isJBackupError(error, "tool_failed") && /timeout\n.*LOCK TABLE/.test(String(error.details?.stderr));

/** pg_restore reads the archive's table of contents as it passes by. */
function startListing(file: string, options: ToolOptions) {
  const run = startTool(file, ["--list"], { ...options, input: "pipe" });
  const lines: Buffer[] = [];
  const collected = (async () => {
    for await (const chunk of run.stdout) lines.push(chunk as Buffer);
    await run.done;
    return Buffer.concat(lines).toString("utf8");
  })();
  collected.catch(() => undefined); // awaited in finish()
  const stdin = run.stdin;
  let isOpen = stdin !== null;
  const closed = () => {
    isOpen = false;
  };
  stdin?.on("error", closed).on("close", closed); // it stops reading after the contents: expected
  return {
    async offer(chunk: Buffer): Promise<void> {
      if (!isOpen || stdin === null) return;
      if (!stdin.write(chunk) && isOpen)
        await Promise.race([once(stdin, "drain"), once(stdin, "close")]).catch(closed);
    },
    async finish(): Promise<string> {
      if (isOpen) stdin?.end();
      return collected;
    },
  };
}

/** pg_dump may run ahead while earlier bytes are sealed; a bare pipe would let the two only take turns. */
const READ_AHEAD_BYTES = 8 * 2 ** 20;

const readAhead = (stream: Readable): AsyncIterable<unknown> =>
  stream.compose(new PassThrough({ highWaterMark: READ_AHEAD_BYTES }));

async function* judged(
  chunks: AsyncIterable<unknown>,
  done: Promise<string>,
  onStderr: (text: string) => void,
) {
  for await (const chunk of chunks) yield chunk as Buffer;
  onStderr(await done);
}

export async function openLogicalDump(settings: DumpSettings): Promise<LogicalDump> {
  const session = await connect(settings.target, settings.user);
  try {
    return await prepareDump(session, settings);
  } catch (error) {
    await session.close();
    throw error;
  }
}

async function prepareDump(session: Session, settings: DumpSettings): Promise<LogicalDump> {
  const server = await serverFacts(session);
  const binaries = await binariesFor("pg_dump", server.major, settings);
  await session.run("set row_security = off");
  await checkReadable(session);
  let { snapshot, tables } = await openSnapshot(session);
  const database = await databaseFacts(session, server.major);
  const names = async (sql: string): Promise<string[]> =>
    (await session.rows<{ name: string }>(sql)).map(({ name }) => name);
  const roles = await names("select rolname as name from pg_roles where rolname !~ '^pg_' order by 1");
  const tablespaces = await names(
    "select spcname as name from pg_tablespace where spcname !~ '^pg_' order by 1",
  );
  const extensions = await names("select extname as name from pg_extension order by 1");
  const warnings = await notCarried(session);
  const [rights] = await session.rows<{ passwords: string }>(
    "select has_table_privilege('pg_catalog.pg_authid', 'select')::text as passwords",
  );
  const readsPasswords = rights?.passwords === "true";
  if (!readsPasswords) warnings.push("role passwords are not included: the backup role may not read them");

  const options: ToolOptions = {
    environment: settings.environment,
    variables: libpqVariables(settings.target, settings.user),
    signal: settings.signal,
  };
  const noteStderr = (text: string): void => {
    for (const line of text.split("\n").filter((part) => part.trim() !== "")) warnings.push(line.trim());
  };

  async function* dumpOf(from: string, manyTables: number): AsyncGenerator<Buffer> {
    const args = [
      "--format=custom",
      "--compress=0",
      "--no-password",
      `--snapshot=${from}`,
      `--lock-wait-timeout=${DUMP_LOCK_WAIT}`,
    ];
    const run = startTool(join(binaries.path, "pg_dump"), args, options);
    const listing = startListing(join(binaries.path, "pg_restore"), options);
    let bytes = 0;
    for await (const chunk of judged(readAhead(run.stdout), run.done, noteStderr)) {
      bytes += chunk.length;
      await listing.offer(chunk);
      yield chunk;
    }
    if (bytes === 0) throw new JBackupError("tool_failed", "pg_dump wrote nothing");
    checkListing(await listing.finish(), manyTables);
  }

  return {
    server,
    database,
    clientMajor: binaries.major,
    roles,
    tablespaces,
    extensions,
    tables: tables.length,
    warnings,
    async *globals() {
      const run = startTool(
        join(binaries.path, "pg_dumpall"),
        [
          "--globals-only",
          "--no-password",
          ...(readsPasswords ? [] : ["--no-role-passwords"]),
          `--database=${session.address.database}`,
        ],
        options,
      );
      yield* judged(run.stdout, run.done, noteStderr);
    },
    async *archive() {
      for (let attempt = 1; ; attempt++) {
        let isBegun = false;
        try {
          for await (const chunk of dumpOf(snapshot, tables.length)) {
            isBegun = true;
            yield chunk;
          }
          return;
        } catch (error) {
          if (isBegun || attempt === MOST_SNAPSHOTS || !isLockTimeout(error)) throw error;
          await session.run("rollback");
          ({ snapshot, tables } = await openSnapshot(session));
        }
      }
    },
    rowCounts: (onTable) => countRows(session, tables, onTable),
    close: () => session.close(),
  };
}

function checkListing(listing: string, tables: number): void {
  const dumped = listing.split("\n").filter((line) => / TABLE DATA /.test(line)).length;
  if (dumped >= tables) return;
  throw new JBackupError(
    "tool_failed",
    `the dump holds the data of ${dumped} tables, but the database has ${tables}`,
    {
      hint: "run pg_dump by hand with --verbose to see which tables it leaves out",
    },
  );
}
