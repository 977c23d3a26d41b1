import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { JBackupError } from "../domain/errors.js";
import { type HiddenFile, openHiddenFile } from "../sys/hiddenFile.js";
import { libpqVariables } from "./connection.js";
import { binariesFor } from "./logicalDump.js";
import type { DumpFacts, RestoreRun, RestoreSettings } from "./sideDatabase.js";
import { runTool, startTool, type ToolOptions } from "./tools.js";

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
