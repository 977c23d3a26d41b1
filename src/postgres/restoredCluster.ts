import { chown, constants, type FileHandle, mkdir, open, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import { Secret } from "../domain/secret.js";
import { isAlive, markOf } from "../sys/processes.js";
import { connect, type Session } from "./connection.js";
import { hintFor, lastWords } from "./serverLog.js";
import { runTool, type ToolEnvironment, type ToolOptions } from "./tools.js";

/** A cluster whose files are in place: how to run a server on it that nobody but us reaches. */
export interface RestoredSettings {
  dataDirectory: string;
  /** Private: holds the socket, the log and the access rules. Short, for a socket's path must stay under 108 bytes. */
  privateDirectory: string;
  binDirectory: string;
  environment: ToolEnvironment;
  /** Whom the server runs as; null: whoever runs this. */
  owner: { uid: number; gid: number } | null;
  /** Beat whatever the cluster's own files say. */
  options: Record<string, string>;
  superuser: string;
  signal: AbortSignal;
}

/** ended: the server stopped by itself, which is what it does when recovery cannot reach its target. */
export type ServerState = "recovering" | "paused" | "ready" | "ended";

export interface RestoredCluster {
  url(database: string): Secret;
  session(database?: string): Promise<Session>;
  state(): Promise<ServerState>;
  /** The last lines of the server's log. */
  log(lines?: number): Promise<string>;
  stop(mode: "fast" | "immediate"): Promise<void>;
}

const PORT = "5432";
/** Replaying and shutting down take as long as they take; seconds for pg_ctl. */
const LONG = "604800";

/** Nothing gets in or out: no TCP, no archiving, no replication, no waiting for standbys. */
const PRIVATE: Record<string, string> = {
  listen_addresses: "",
  port: PORT,
  unix_socket_permissions: "0700",
  archive_mode: "off",
  archive_command: "",
  primary_conninfo: "",
  primary_slot_name: "",
  synchronous_standby_names: "",
  ssl: "off",
  logging_collector: "off",
  log_destination: "stderr",
  log_min_messages: "warning",
  huge_pages: "try",
  hot_standby: "on",
  autovacuum: "off",
  external_pid_file: "",
  jit: "off",
};

/** As one word for the shell that pg_ctl starts the server through. */
const shellWord = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const optionsText = (options: Record<string, string>): string =>
  Object.entries(options)
    .map(([name, value]) => `-c ${shellWord(`${name}=${value}`)}`)
    .join(" ");

export async function startRestored(settings: RestoredSettings): Promise<RestoredCluster> {
  const { dataDirectory, privateDirectory, binDirectory, environment, owner } = settings;
  const own = async (path: string): Promise<void> => {
    if (owner) await chown(path, owner.uid, owner.gid);
  };
  await mkdir(privateDirectory, { recursive: true, mode: 0o700 });
  await own(privateDirectory);
  const hba = join(privateDirectory, "pg_hba.conf");
  await writeFile(hba, "local all all trust\n", { mode: 0o600 });
  await own(hba);
  const logFile = join(privateDirectory, "log");
  await writeFile(logFile, "", { mode: 0o600 });
  await own(logFile);

  const options = {
    ...PRIVATE,
    data_directory: dataDirectory,
    hba_file: hba,
    unix_socket_directories: privateDirectory,
    ...settings.options,
  };
  const tool: ToolOptions = { environment, owner: owner ?? undefined, directory: privateDirectory };
  const pgCtl = (args: string[], signal?: AbortSignal): Promise<string> =>
    runTool(join(binDirectory, "pg_ctl"), ["-D", dataDirectory, ...args], { ...tool, signal });
  const url = (database: string): Secret =>
    new Secret(
      `postgresql://${encodeURIComponent(settings.superuser)}@/${encodeURIComponent(database)}?host=${encodeURIComponent(privateDirectory)}&port=${PORT}`,
    );
  const session = (database = "postgres"): Promise<Session> =>
    connect({ url: url(database) }, settings.superuser);
  const cluster: RestoredCluster = {
    url,
    session,
    state: async () => {
      if (!(await isRunning(dataDirectory))) return "ended";
      const state = await stateOf(session);
      // on its way down it lets nobody in, and has not written yet why it goes
      return state === "ended" && (await isRunning(dataDirectory)) ? "recovering" : state;
    },
    log: async (lines) => {
      const text = await readFile(logFile, "utf8");
      return lines === undefined ? lastWords(text) : text.trim().split("\n").slice(-lines).join("; ");
    },
    stop: async (mode) => {
      if (await isRunning(dataDirectory)) await pgCtl(["-m", mode, "-w", "-t", LONG, "-s", "stop"]);
    },
  };
  try {
    // comes back when connections are let in: at the end of recovery, or as soon as a paused one is consistent
    await pgCtl(
      ["-w", "-t", LONG, "-s", "-l", logFile, "-o", optionsText(options), "start"],
      settings.signal,
    );
  } catch (error) {
    settings.signal.throwIfAborted();
    const log = await cluster.log();
    // without a word from the server, pg_ctl could not even start it
    throw new JBackupError(
      "postgres_failed",
      `the restored cluster did not start: ${log || reasonOf(error)}`,
      {
        cause: error,
        hint:
          hintFor(log) ??
          `look at ${dataDirectory}: its owner must be able to reach it, and to run ${join(binDirectory, "postgres")}`,
        details: { log: await cluster.log(40) },
      },
    );
  }
  return cluster;
}

async function stateOf(session: () => Promise<Session>): Promise<ServerState> {
  let asking: Session;
  try {
    asking = await session();
  } catch (error) {
    if (isJBackupError(error, "postgres_unreachable")) return "ended";
    throw error;
  }
  try {
    const [row] = await asking.rows<{ recovering: string; paused: string }>(
      `select pg_is_in_recovery()::text as recovering,
              (case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end)::text as paused`,
    );
    if (row?.recovering === "false") return "ready";
    return row?.paused === "true" ? "paused" : "recovering";
  } finally {
    await asking.close();
  }
}

/** Whether a server runs on these files. */
export const isRunning = async (dataDirectory: string): Promise<boolean> =>
  (await serverOn(dataDirectory)) !== null;

export interface Listening {
  /** A socket's folder, or an address where it has no socket. */
  host: string;
  port: string;
}

/** Where the server that runs on these files listens, by what it wrote there itself; null when none runs. */
export async function serverOn(dataDirectory: string): Promise<Listening | null> {
  let text: string;
  try {
    text = await readFile(join(dataDirectory, "postmaster.pid"), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  const [pid, , , port = "", folder = "", address = ""] = text.split("\n").map((line) => line.trim());
  if (!isAlive(markOf(Number(pid)))) return null;
  const byNetwork = address === "" || address === "*" ? "localhost" : address;
  return { host: folder === "" ? byNetwork : resolve(dataDirectory, folder), port };
}

export interface OwnServer {
  dataDirectory: string;
  binDirectory: string;
  environment: ToolEnvironment;
  owner: { uid: number; gid: number } | null;
  logFile: string;
}

/** Ends a server that a killed run left behind; nothing happens when there is none. */
export async function stopServer(server: Omit<OwnServer, "logFile">): Promise<void> {
  const { dataDirectory, binDirectory, environment, owner } = server;
  if (!(await isRunning(dataDirectory))) return;
  await runTool(
    join(binDirectory, "pg_ctl"),
    ["-D", dataDirectory, "-m", "immediate", "-w", "-t", "60", "-s", "stop"],
    { environment, owner: owner ?? undefined, directory: "/" },
  );
}

/** Starts the server as its own configuration says, and leaves it running. */
export async function startServer(server: OwnServer): Promise<void> {
  const { dataDirectory, binDirectory, environment, owner, logFile } = server;
  const log = await openLog(logFile, owner);
  try {
    await runTool(
      join(binDirectory, "pg_ctl"),
      ["-D", dataDirectory, "-w", "-t", "300", "-s", "-l", logFile, "start"],
      { environment, owner: owner ?? undefined, directory: dataDirectory },
    );
  } catch (error) {
    const said = lastWords(await log.readFile("utf8"));
    throw new JBackupError("postgres_failed", `the server did not start: ${said}`, { cause: error });
  } finally {
    await log.close();
  }
}

const LOG = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** An empty file in a folder that is not ours: no link in its place is followed, or root would empty and give away what it leads to. */
export async function openLog(path: string, owner: OwnServer["owner"]): Promise<FileHandle> {
  const refused = (cause?: unknown): JBackupError =>
    new JBackupError("target_refused", `${path} is a link, or no file`, {
      hint: `remove it: the server's log is written there`,
      cause,
    });
  const file = await open(path, LOG, 0o600).catch((error: NodeJS.ErrnoException) => {
    throw ["ELOOP", "EISDIR", "ENXIO"].includes(error.code ?? "") ? refused(error) : error;
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.nlink > 1) throw refused();
    await file.truncate(0);
    await file.chmod(0o600);
    if (owner) await file.chown(owner.uid, owner.gid);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
