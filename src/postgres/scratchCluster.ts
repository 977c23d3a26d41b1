import { randomBytes } from "node:crypto";
import { chmod, chown, lstat, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../domain/errors.js";
import { makeClaimedFolder, readClaim, sweepBegunFolders } from "../sys/claimedFolder.js";
import { isOwnFolder, objectIn } from "../sys/ownFiles.js";
import { isAlive, isProcessMark, ownMark } from "../sys/processes.js";
import { lastWords } from "./serverLog.js";
import { findBinDirectories, runTool, type ToolEnvironment, type ToolOptions } from "./tools.js";

const FOLDER = /^jbackup-scratch-[0-9a-f]{8}$/;

export interface ScratchSettings {
  /** Where the throwaway folder is made. Short, for a socket's path must stay under 108 bytes. */
  parentDirectory: string;
  binDirectory: string;
  environment: ToolEnvironment;
  /** postgresql.conf settings on top of the quick and private ones. */
  settings?: Record<string, string>;
  /** Lines of pg_hba.conf that go first. */
  hba?: string[];
  initdb?: string[];
}

export interface ScratchCluster {
  directory: string;
  dataDirectory: string;
  socketDirectory: string;
  port: number;
  binDirectory: string;
  url(database?: string, user?: string): string;
  restart(mode?: "fast" | "immediate"): Promise<void>;
  stop(): Promise<void>;
}

const QUICK: Record<string, string> = {
  listen_addresses: "''",
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  archive_mode: "off",
  max_connections: "60",
  logging_collector: "off",
};

/** The server refuses to run as root: then it runs as the user that Debian makes for it, else as nobody. */
export async function unprivilegedOwner(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const users = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"));
  const user = users.find(([name]) => name === "postgres") ?? users.find(([name]) => name === "nobody");
  if (!user)
    throw new JBackupError("environment", "no unprivileged user to run a scratch cluster as", {
      hint: "create a system user named postgres",
    });
  return { uid: Number(user[2]), gid: Number(user[3]) };
}

const pgCtl = (
  directory: string,
  binDirectory: string,
  args: string[],
  options: ToolOptions,
): Promise<string> =>
  runTool(join(binDirectory, "pg_ctl"), ["-D", join(directory, "data"), "-w", "-t", "60", ...args], options);

/** A throwaway PostgreSQL on a private Unix socket. Whoever starts it stops it; what a killed run left, the next one sweeps. */
export async function startScratchCluster(wanted: ScratchSettings): Promise<ScratchCluster> {
  const owner = await unprivilegedOwner();
  const directory = await makeScratchFolder(wanted.parentDirectory, owner ?? null);
  const dataDirectory = join(directory, "data");
  const { binDirectory, environment } = wanted;
  const tool: ToolOptions = { environment, owner, directory };

  const stop = async (): Promise<void> => {
    try {
      await pgCtl(directory, binDirectory, ["-m", "immediate", "stop"], tool);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  };
  const start = async (): Promise<void> => {
    await pgCtl(directory, binDirectory, ["-l", join(directory, "log"), "start"], tool).catch(
      async (error) => {
        const log = await readFile(join(directory, "log"), "utf8").catch(() => "");
        throw new JBackupError("postgres_failed", `the scratch cluster did not start: ${lastWords(log)}`, {
          cause: error,
        });
      },
    );
  };

  try {
    await runTool(
      join(binDirectory, "initdb"),
      [
        "-D",
        dataDirectory,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        ...(wanted.initdb ?? []),
      ],
      tool,
    );
    const settings = { ...QUICK, unix_socket_directories: `'${directory}'`, ...wanted.settings };
    await writeFile(
      join(dataDirectory, "postgresql.auto.conf"),
      `${Object.entries(settings)
        .map(([name, value]) => `${name} = ${value}`)
        .join("\n")}\n`,
    );
    if (wanted.hba) {
      const hba = join(dataDirectory, "pg_hba.conf");
      await writeFile(hba, `${wanted.hba.join("\n")}\n${await readFile(hba, "utf8")}`);
    }
    await start();
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }

  const port = Number(wanted.settings?.port ?? 5432);
  return {
    directory,
    dataDirectory,
    socketDirectory: directory,
    port,
    binDirectory,
    url: (database = "postgres", user = "postgres") =>
      `postgresql://${user}@/${encodeURIComponent(database)}?host=${encodeURIComponent(directory)}&port=${port}`,
    restart: async (mode = "fast") => {
      await pgCtl(directory, binDirectory, ["-m", mode, "stop"], tool);
      await start();
    },
    stop,
  };
}

/** A folder for a scratch cluster, which says whose it is: when that process is gone, the next run may remove it. */
export async function makeScratchFolder(
  parentDirectory: string,
  owner: { uid: number; gid: number } | null,
  onBegun?: () => void,
): Promise<string> {
  const directory = join(parentDirectory, `jbackup-scratch-${randomBytes(4).toString("hex")}`);
  await makeClaimedFolder(directory, ownMark(), onBegun);
  await chmod(directory, 0o700);
  if (owner) await chown(directory, owner.uid, owner.gid);
  return directory;
}

/** Removes the scratch clusters of runs that died without doing so; answers their folders. What others made bears any name, and is left alone. */
export async function sweepScratchClusters(
  parentDirectory: string,
  environment: ToolEnvironment,
  configuredBin: string | "auto" = "auto",
): Promise<string[]> {
  const swept = await sweepBegunFolders(parentDirectory);
  const owner = await unprivilegedOwner();
  for (const name of (await readdir(parentDirectory)).filter((entry) => FOLDER.test(entry))) {
    const directory = join(parentDirectory, name);
    if (!(await isOwnFolder(directory, owner ? [owner.uid] : []))) continue;
    const file = await readClaim(directory);
    if (file.whose !== "ours") continue;
    const mark = objectIn(file.text); // a torn one is of a run that a power cut ended
    if (isProcessMark(mark) && isAlive(mark)) continue;
    const data = await lstat(join(directory, "data")).catch(() => null);
    const [newest] = data?.isDirectory()
      ? await findBinDirectories("pg_ctl", environment, configuredBin)
      : [];
    if (newest)
      await pgCtl(directory, newest.path, ["-m", "immediate", "stop"], {
        environment,
        owner,
        directory,
      }).catch(
        () => undefined, // it may not be running any more
      );
    await rm(directory, { recursive: true, force: true });
    swept.push(directory);
  }
  return swept;
}

/** A cluster to play with, on whatever server binaries this machine has; sweeps what killed runs left first. */
export async function startThrowawayCluster(
  parentDirectory: string,
  environment: ToolEnvironment,
): Promise<ScratchCluster & { version: string }> {
  const [newest] = await findBinDirectories("initdb", environment);
  if (!newest) {
    throw new JBackupError(
      "environment",
      "the PostgreSQL server programs (initdb, postgres) were not found",
      {
        hint: "apt-get install postgresql, or put their folder into PATH",
      },
    );
  }
  await sweepScratchClusters(parentDirectory, environment);
  const cluster = await startScratchCluster({ parentDirectory, binDirectory: newest.path, environment });
  return { ...cluster, version: String(newest.major) };
}
