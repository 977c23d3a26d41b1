import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { JBackupError } from "../domain/errors.js";
import { libpqVariables, quoteName, quoteText, type Session } from "./connection.js";
import { binariesFor } from "./logicalDump.js";
import type { RestoreSettings } from "./sideDatabase.js";
import { startTool, type ToolOptions } from "./tools.js";

/** Everything of a database but its rows, in a new one on the same server. */
export async function copySchema(
  settings: RestoreSettings,
  { admin, from, to, major }: { admin: Session; from: string; to: string; major: number },
): Promise<void> {
  const { path } = await binariesFor("pg_dump", major, settings);
  const [like] = await admin.rows<{ encoding: string; collate: string; ctype: string }>(
    "select pg_encoding_to_char(encoding) as encoding, datcollate as collate, datctype as ctype from pg_database where datname = $1",
    [from],
  );
  if (like === undefined) throw new JBackupError("database_missing", `there is no database "${from}"`);
  await admin.run(
    `create database ${quoteName(to)} template template0 encoding ${quoteText(like.encoding)} lc_collate ${quoteText(like.collate)} lc_ctype ${quoteText(like.ctype)}`,
  );
  const options = (database: string): ToolOptions => ({
    environment: settings.environment,
    variables: libpqVariables({ ...settings.target, database }, settings.user),
    signal: settings.signal,
  });
  const loading = startTool(join(path, "psql"), ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-f", "-"], {
    ...options(to),
    input: "pipe",
  });
  loading.stdout.resume();
  if (loading.stdin === null) throw new JBackupError("bug", "psql has no input");
  const dumping = startTool(join(path, "pg_dump"), ["--schema-only", "--no-password"], options(from));
  await pipeline(dumping.stdout, loading.stdin).catch(() => undefined); // psql ended early: its own exit says why
  await dumping.done;
  await loading.done;
}
