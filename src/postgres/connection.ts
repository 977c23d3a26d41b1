import pg from "pg";
import { parse } from "pg-connection-string";
import { addressProblem } from "../domain/address.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import type { Secret } from "../domain/secret.js";

/** Values never pass through JavaScript types: dates, numbers and bytes stay the text that PostgreSQL sent. */
const AS_TEXT = { getTypeParser: () => (value: string) => value };

export interface Target {
  url: Secret;
  /** Another database of the same server. */
  database?: string;
}

/** What a person may read about a connection: never the password. */
export interface Address {
  host: string;
  port: string;
  user: string;
  database: string;
}

/** libpq decodes every escape in a database's name; the parser leaves some, such as %24, as they are. */
const databaseIn = (url: string): string | undefined => {
  const path = /^postgres(?:ql)?:\/\/(?:.*@)?[^/?#]*\/([^?#]*)/i.exec(url)?.[1];
  return path === undefined || path === "" ? undefined : decodeURIComponent(path);
};

const noAddress = (why: string): JBackupError =>
  new JBackupError("config_invalid", `database.url is not a connection address: ${why}`, {
    hint: "write it as postgresql://USER@HOST:PORT/DATABASE or postgresql:///DATABASE?host=/SOCKET/FOLDER",
  });

const parsed = (target: Target): ReturnType<typeof parse> => {
  const url = target.url.reveal();
  // the parser takes any word for the name of a database on a host that is not there
  const problem = addressProblem(url);
  if (problem !== null) throw noAddress(problem);
  try {
    const settings = parse(url);
    const database = target.database ?? databaseIn(url) ?? settings.database;
    return database === undefined ? settings : { ...settings, database };
  } catch (error) {
    throw noAddress(reasonOf(error));
  }
};

export function addressOf(target: Target, user: string): Address {
  const settings = parsed(target);
  const name = settings.user || user;
  return {
    host: settings.host || "localhost",
    port: settings.port || "5432",
    user: name,
    database: settings.database || name,
  };
}

const place = (address: Address): string =>
  address.host.startsWith("/")
    ? `socket ${address.host}, port ${address.port}`
    : `${address.host}:${address.port}`;

/** Server and driver errors as sentences that name the next step. */
export function translate(error: unknown, address: Address): JBackupError {
  if (error instanceof JBackupError) return error;
  const { code, message } = error as { code?: string; message?: string };
  const at = place(address);
  const parts = { cause: error };
  if (code === "28P01" || code === "28000" || /password/i.test(message ?? "")) {
    return new JBackupError(
      "postgres_denied",
      `PostgreSQL at ${at} refused user "${address.user}": ${message}`,
      {
        ...parts,
        hint: "check the user and password in database.url, and the server's pg_hba.conf",
      },
    );
  }
  if (code === "3D000") {
    return new JBackupError(
      "database_missing",
      `there is no database "${address.database}" on PostgreSQL at ${at}`,
      {
        ...parts,
        hint: "check the database name in database.url; psql -l lists what is there",
      },
    );
  }
  if (
    [
      "ECONNREFUSED",
      "ENOENT",
      "ENOTFOUND",
      "EAI_AGAIN",
      "ETIMEDOUT",
      "EHOSTUNREACH",
      "ECONNRESET",
      "57P03",
      "57P01",
      "57P02",
    ].includes(code ?? "") ||
    /timeout|terminated/i.test(message ?? "")
  ) {
    return new JBackupError("postgres_unreachable", `cannot reach PostgreSQL at ${at}: ${message || code}`, {
      ...parts,
      hint: "check that the server runs and that host and port in database.url are right",
    });
  }
  if (code === "42501") {
    return new JBackupError("postgres_denied", `user "${address.user}" may not do this: ${message}`, {
      ...parts,
      hint: "grant the missing right, or use a role that has it in database.url",
    });
  }
  return new JBackupError("postgres_failed", `PostgreSQL at ${at}: ${message ?? String(error)}`, parts);
}

export interface Session {
  /** Runs one statement; every value comes back as text or null. */
  rows<Row extends Record<string, string | null>>(sql: string, values?: unknown[]): Promise<Row[]>;
  /** Several statements at once, no values. */
  run(sql: string): Promise<void>;
  /** The underlying client, for COPY streams. */
  readonly client: pg.Client;
  readonly address: Address;
  close(): Promise<void>;
  /** Throws when the connection is known to be gone. */
  requireAlive(): void;
  /** Cuts the connection, whatever it is doing. */
  abort: () => void;
}

/**
 * A session may hold a lock or a snapshot for hours while it says nothing, so the server's limits for idle sessions and long
 * transactions (which not every version has) are lifted; and what it is told is done must survive a crash of the server.
 */
const OUTLIVES = `select set_config(name, '0', false) from pg_catalog.pg_settings where name in ('idle_session_timeout', 'transaction_timeout')
  union all select set_config(name, 'on', false) from pg_catalog.pg_settings where name = 'synchronous_commit' and setting in ('off', 'local')`;

/** One connection with pinned settings, so that text forms are the same everywhere. */
export async function connect(target: Target, user: string): Promise<Session> {
  const settings = parsed(target);
  const address = addressOf(target, user);
  const client = new pg.Client({
    ...(settings as unknown as pg.ClientConfig),
    user: address.user,
    database: address.database,
    application_name: "jbackup",
    connectionTimeoutMillis: 15_000,
    keepAlive: true,
    types: AS_TEXT as unknown as NonNullable<pg.ClientConfig["types"]>,
  });
  let lost: Error | undefined;
  client.on("error", (error) => {
    lost = error; // told by the next statement, which fails because of it
  });
  try {
    await client.connect();
    await client.query(
      "set search_path = ''; set client_encoding = 'UTF8'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set timezone = 'UTC';" +
        " set extra_float_digits = 3; set bytea_output = 'hex'; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0",
    );
    await client.query(OUTLIVES);
  } catch (error) {
    await client.end().catch(() => undefined);
    throw translate(error, address);
  }
  return {
    client,
    address,
    rows: async (sql, values) => {
      try {
        return (await client.query(sql, values)).rows;
      } catch (error) {
        throw translate(lost ?? error, address);
      }
    },
    run: async (sql) => {
      try {
        await client.query(sql);
      } catch (error) {
        throw translate(lost ?? error, address);
      }
    },
    close: () => endOrCut(client),
    requireAlive: () => {
      if (lost !== undefined) throw translate(lost, address);
    },
    abort: () => cutOff(client),
  };
}

/** The rows of a statement one after the other, as they come: however many they are, none is kept. */
export async function eachRow<Row extends Record<string, string | null>>(
  session: Session,
  sql: string,
  onRow: (row: Row) => void,
): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      const query = session.client.query(new pg.Query<Row>(sql));
      query.on("row", onRow);
      query.on("error", reject);
      query.on("end", () => resolve());
    });
  } catch (error) {
    throw translate(error, session.address);
  }
}

const GOODBYE_MS = 3_000;

/** A server that is cut off, or whose host is gone, never answers a goodbye. */
async function endOrCut(client: pg.Client): Promise<void> {
  const cut = setTimeout(() => cutOff(client), GOODBYE_MS);
  await client.end().catch(() => undefined);
  clearTimeout(cut);
}

const cutOff = (client: pg.Client): void => {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
};

/** A connection that speaks the replication protocol: no SQL, no settings. */
export async function connectReplication(
  target: Target,
  user: string,
  applicationName = "jbackup",
): Promise<{ client: pg.Client; address: Address }> {
  const address = addressOf(target, user);
  const client = new pg.Client({
    ...(parsed(target) as unknown as pg.ClientConfig),
    user: address.user,
    database: address.database,
    application_name: applicationName,
    connectionTimeoutMillis: 15_000,
    keepAlive: true,
    replication: "true",
  } as pg.ClientConfig);
  client.on("error", () => undefined); // told by the command that runs, or by the next one
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    throw translate(error, address);
  }
  return { client, address };
}

/** The same connection for libpq programs, by variables: nothing of it in argv. */
export function libpqVariables(target: Target, user: string): Record<string, string> {
  const settings = parsed(target) as ReturnType<typeof parse> & Record<string, unknown>;
  const address = addressOf(target, user);
  const variables: Record<string, string> = {
    PGHOST: address.host,
    PGPORT: address.port,
    PGUSER: address.user,
    PGDATABASE: address.database,
    PGAPPNAME: "jbackup",
    PGCONNECT_TIMEOUT: "15",
    PGCLIENTENCODING: "UTF8",
  };
  if (settings.password) variables.PGPASSWORD = settings.password;
  const fromUrl = new URL(
    target.url.reveal().replace(/^postgres(ql)?:\/\/([^/@]*@)?\//, "postgresql://$2localhost/"),
  ).searchParams;
  for (const [option, variable] of [
    ["sslmode", "PGSSLMODE"],
    ["sslrootcert", "PGSSLROOTCERT"],
    ["sslcert", "PGSSLCERT"],
    ["sslkey", "PGSSLKEY"],
    ["options", "PGOPTIONS"],
  ] as const) {
    const value = fromUrl.get(option);
    if (value !== null) variables[variable] = value;
  }
  return variables;
}

export const quoteName = (name: string): string => pg.escapeIdentifier(name);
/** A name as PostgreSQL writes it, back to what it is. */
export const plainName = (written: string): string =>
  written.startsWith('"') ? written.slice(1, -1).replaceAll('""', '"') : written;

export const quoteText = (text: string): string => pg.escapeLiteral(text);

/** The password in an address, so that output can blank it. */
export const passwordIn = (url: Secret): string | null => parsed({ url }).password || null;
