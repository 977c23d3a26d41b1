import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { Secret } from "../../src/domain/secret.js";
import { connect } from "../../src/postgres/connection.js";
import { type MergeRequest, type MergeResult, mergeDatabase } from "../../src/postgres/merge.js";
import { query } from "../support/awkward.js";
import type { TestPostgres } from "../support/postgres.js";

export type Row = Record<string, string>;

/** A live database and the backup of it beside, as pg_dump and pg_restore make it: no indexes, no constraints. */
export interface Pair {
  live: string;
  url: string;
  /** Runs statements in the live database; answers the last one's rows. */
  sql(...statements: string[]): Promise<Row[]>;
  /** The same in the backup's side database. */
  side(...statements: string[]): Promise<Row[]>;
  merge(options?: Partial<MergeRequest> & { user?: string }): Promise<MergeResult>;
  /** Rows as text by their key's text, read without the product. */
  rows(table: string, key: string): Promise<Map<string, string>>;
}

let made = 0;

export async function makePair(server: TestPostgres, schema: string, owner = "postgres"): Promise<Pair> {
  const live = `live_${++made}`;
  const side = `side_${made}`;
  const admin = server.url();
  await query(admin, `create database ${live} owner ${owner}`);
  await query(admin, `create database ${side} owner ${owner}`);
  await query(server.url(live, owner), schema);
  const at = ["-h", server.socketDirectory, "-p", String(server.port), "-U", owner];
  const dump = execFileSync(join(server.binDirectory, "pg_dump"), [...at, "-Fc", live], {
    maxBuffer: 64 * 2 ** 20,
  });
  execFileSync(
    join(server.binDirectory, "pg_restore"),
    [...at, "--exit-on-error", "--section=pre-data", "--section=data", "-d", side],
    { input: dump },
  );
  const url = server.url(live);
  return {
    live,
    url,
    sql: (...statements) => query(url, ...statements),
    side: (...statements) => query(server.url(side), ...statements),
    rows: async (table, key) => {
      const rows = await query(
        url,
        `select (${key})::text as key, t::text as row from only ${table} t order by 1`,
      );
      return new Map(rows.map(({ key: of = "", row = "" }) => [of, row]));
    },
    merge: async ({ user = owner, ...options } = {}) => {
      const source = await connect({ url: new Secret(server.url(side, user)) }, user);
      const target = await connect({ url: new Secret(server.url(live, user)) }, user);
      try {
        return await mergeDatabase({
          source,
          target,
          onConflict: "skip",
          tables: [],
          onProgress: () => undefined,
          signal: new AbortController().signal,
          ...options,
        });
      } finally {
        await Promise.all([source.close(), target.close()]);
      }
    },
  };
}
