import { readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { drillDanger } from "../../domain/drillGuard.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { Action } from "../../domain/runbook.js";
import type { Secret } from "../../domain/secret.js";
import type { Session } from "../../postgres/postgres.js";
import type { EndedProgram } from "../../sys/aside.js";
import { startForGood } from "../recovery/checkCluster.js";
import { sizedOptions } from "../recovery/serverFor.js";
import type { Site } from "../site.js";

/** Watches one program that a step runs. */
export interface Watcher {
  onStart(pid: number): void;
  onErrorLine(line: string): void;
}

/** What the steps of a run stand on: the real site, or a drill's own server, catalog and folder. Steps reach nothing else. */
export interface Ground {
  readonly isDrill: boolean;
  /** Throws when the action must not be done here. */
  admit(action: Action): void;
  jbackup(words: string[], watcher: Watcher): Promise<EndedProgram>;
  shell(script: string, watcher: Watcher): Promise<EndedProgram>;
  session(): Promise<Session>;
  start(directory: string): Promise<void>;
}

/** What a parent's test hooks must not do to its children, and what would lead libpq elsewhere. */
const NOT_PASSED_ON = ["JBACKUP_STOP_AT", "JBACKUP_DRILL"];

/** For jbackup itself, which needs the secrets of its configuration. */
const childOf = (site: Site, drill: string | null): Record<string, string> => {
  const variables = site.environment.without(new Set(NOT_PASSED_ON));
  return drill === null ? variables : { ...variables, JBACKUP_DRILL: drill };
};

function programsOf(site: Site, drill: string | null): Pick<Ground, "jbackup"> {
  return {
    jbackup: (words, watcher) =>
      site.again([...words, "--config", site.config.file, "--json", "--no-input"], {
        variables: childOf(site, drill),
        directory: site.environment.workingDirectory,
        signal: site.signal,
        ...watcher,
      }),
  };
}

/** `started`: where an earlier step of this run has started a server. */
export function realGround(site: Site, started: string | null = null): Ground {
  let own = started;
  return {
    isDrill: false,
    admit: () => undefined,
    ...programsOf(site, null),
    shell: async (script, watcher) => {
      await learnSecrets(site);
      return site.shell(script, {
        variables: site.environment.without(new Set([...NOT_PASSED_ON, ...site.config.secretVariables])),
        directory: site.environment.workingDirectory,
        signal: site.signal,
        ...watcher,
      });
    },
    session: async () => (own === null ? (await site.postgres()).connect() : sessionOn(site, own)),
    start: async (directory) => {
      if (!(await isUp(site, directory)))
        await startForGood(site, { directory, ...(await serverOf(site, directory)) });
      own = directory;
    },
  };
}

/** What a run has started is what it looks at: the configuration still names the server that was lost. */
async function sessionOn(site: Site, directory: string): Promise<Session> {
  const { serverOn } = await site.clusters();
  const place = await serverOn(directory);
  if (place === null)
    throw new JBackupError("postgres_unreachable", `no server runs on ${directory} any more`, {
      hint: `look at ${join(directory, "jbackup-start.log")}, then pg_ctl -D ${directory} start`,
    });
  const session = await sessionAt(site, await site.urlOn(place));
  try {
    await requireFilesOf(session, directory);
  } catch (error) {
    await session.close();
    throw error;
  }
  return session;
}

/** Another server may have taken the socket's place. A role that may not ask where the files are cannot compare. */
async function requireFilesOf(session: Session, directory: string): Promise<void> {
  const [row] = await session.rows<{ found: string | null }>(
    `select case when pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'member')
                 then pg_catalog.current_setting('data_directory') end as found`,
  );
  const found = row?.found ?? null;
  if (found === null || (await realPath(found)) === (await realPath(directory))) return;
  throw new JBackupError(
    "verification_failed",
    `the server that answers on the socket of ${directory} works on ${found}`,
    { hint: "stop that server, or give the restored one another port in its postgresql.conf" },
  );
}

const realPath = (path: string): Promise<string> =>
  realpath(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    return path; // a server goes on for a while when its files are gone
  });

async function sessionAt(site: Site, url: Secret): Promise<Session> {
  const { openPostgres } = await site.clusters();
  const postgres = await openPostgres({
    url,
    user: site.environment.systemUser,
    binDirectory: site.config.database.binDirectory,
    dataDirectory: "auto",
    nowMs: () => site.clock.now().getTime(),
    environment: { path: site.environment.path, home: site.environment.home },
    signal: site.signal,
  });
  return postgres.connect();
}

/** Those that nothing was opened with yet: a script may find and print them. A file that is not there has nothing to tell. */
async function learnSecrets(site: Site): Promise<void> {
  for (const name of site.config.secretVariables) site.onSecret(site.environment.variable(name) ?? "");
  for (const file of site.config.secretFiles) site.onSecret(await readFile(file, "utf8").catch(() => ""));
}

/** The production database is not even known here: sessions go to the socket in the drill's folder, children to the same. */
export function drillGround(site: Site, scratch: string): Ground {
  return {
    isDrill: true,
    admit: (action) => {
      const danger = drillDanger(action, scratch);
      if (danger !== null)
        throw new JBackupError("target_refused", `not in a drill: ${danger}`, {
          hint: "jbackup dr check names every step that a drill refuses",
        });
    },
    ...programsOf(site, scratch),
    shell: () => {
      throw new JBackupError("bug", "a drill was about to run a shell script");
    },
    session: async () => sessionAt(site, await site.drillUrl(scratch)),
    start: (directory) => startPrivately(site, directory, scratch),
  };
}

/** Nothing on it must last, so nothing waits for the disk. */
const THROWAWAY = { fsync: "off", full_page_writes: "off", synchronous_commit: "off" };

async function startPrivately(site: Site, directory: string, scratch: string): Promise<void> {
  if (await isUp(site, directory)) return;
  const { startRestored } = await site.clusters();
  await startRestored({
    dataDirectory: directory,
    privateDirectory: join(scratch, "run"),
    ...(await serverOf(site, directory)),
    environment: { path: site.environment.path, home: site.environment.home },
    options: { ...sizedOptions(), ...THROWAWAY },
    superuser: "postgres",
    signal: site.signal,
  });
}

const isUp = async (site: Site, directory: string): Promise<boolean> =>
  (await site.clusters()).isRunning(directory);

/** The programs of the version that the files are of, and whom they belong to. */
async function serverOf(
  site: Site,
  directory: string,
): Promise<{ binDirectory: string; owner: { uid: number; gid: number } | null }> {
  const { stat } = await import("node:fs/promises");
  const file = join(directory, "PG_VERSION");
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    throw new JBackupError("not_found", `there is no cluster in ${directory}`, {
      hint: "restore one into it first",
    });
  });
  const { findBinDirectories } = await site.clusters();
  const { environment, config } = site;
  const tools = { path: environment.path, home: environment.home };
  const found = await findBinDirectories("postgres", tools, config.database.binDirectory);
  const fitting = found.find(({ major }) => major === Number(text.trim()));
  if (fitting === undefined)
    throw new JBackupError("version_mismatch", `no server programs of PostgreSQL ${text.trim()} are here`, {
      hint: `install PostgreSQL ${text.trim()}, or point database.binDirectory at its programs`,
    });
  const { uid, gid } = await stat(directory);
  return { binDirectory: fitting.path, owner: environment.isRoot ? { uid, gid } : null };
}

/** Whether the ground's server answers; other troubles are thrown. */
export async function isReachable(ground: Ground): Promise<boolean> {
  try {
    await (await ground.session()).close();
    return true;
  } catch (error) {
    if (isJBackupError(error, "postgres_unreachable")) return false;
    throw error;
  }
}
