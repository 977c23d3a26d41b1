import { homedir, hostname, userInfo } from "node:os";
import { join } from "node:path";

/** Everything jbackup takes from the process around it; nothing else reads environment variables. */
export interface Environment {
  variable(name: string): string | undefined;
  /** For a program of the user's: all variables but these. */
  without(names: ReadonlySet<string>): Record<string, string>;
  path: string;
  home: string;
  temporaryDirectory: string;
  host: string;
  /** Who is at work, for the records: also behind sudo. */
  user: string;
  /** As whom the process runs: that is who PostgreSQL sees at the other end of its socket. */
  systemUser: string;
  isRoot: boolean;
  /** Who became root with sudo. */
  sudoUid: number | undefined;
  workingDirectory: string;
  /** The folder for catalog, default storage, generated keys, journals and locks. */
  jbackupHome: string;
  noColor: boolean;
  forceColor: boolean;
  /** The folder of a drill: set, nothing outside of it can be reached for writing. */
  drill: string | undefined;
  /** A copy of the configuration that goes for the file itself: a daemon's jobs are run with it while the file is broken. */
  configInUse: string | undefined;
  /** Where a test wants the process to stop itself, so that it can be killed exactly there. */
  stopAt: string | undefined;
  /** How long a storage may stand still before it is given up; a minute unless told otherwise. */
  storageIdleMs: number | undefined;
  /** How long after a failed run the daemon tries again; five minutes unless told otherwise. */
  retryPauseMs: number | undefined;
}

const set = (value: string | undefined): boolean => value !== undefined && value !== "";

export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const home = variables.HOME ?? homedir();
  const isRoot = process.getuid?.() === 0;
  const ownHome = isRoot
    ? "/var/lib/jbackup"
    : join(variables.XDG_DATA_HOME || join(home, ".local/share"), "jbackup");
  return {
    variable: (name) => variables[name],
    without: (names) =>
      Object.fromEntries(
        Object.entries(variables).filter(
          (entry): entry is [string, string] => entry[1] !== undefined && !names.has(entry[0]),
        ),
      ),
    path: variables.PATH ?? "/usr/local/bin:/usr/bin:/bin",
    home,
    temporaryDirectory: variables.TMPDIR || "/tmp",
    host: hostname(),
    user: variables.SUDO_USER || userInfo().username,
    systemUser: userInfo().username,
    isRoot,
    sudoUid: isRoot && set(variables.SUDO_UID) ? Number(variables.SUDO_UID) : undefined,
    workingDirectory: process.cwd(),
    jbackupHome: variables.JBACKUP_HOME || ownHome,
    noColor: set(variables.NO_COLOR) || variables.TERM === "dumb",
    forceColor: set(variables.FORCE_COLOR) && variables.FORCE_COLOR !== "0",
    drill: variables.JBACKUP_DRILL || undefined,
    configInUse: variables.JBACKUP_CONFIG_IN_USE || undefined,
    stopAt: variables.JBACKUP_STOP_AT || undefined,
    storageIdleMs: Number(variables.JBACKUP_STORAGE_IDLE_MS) || undefined,
    retryPauseMs: Number(variables.JBACKUP_RETRY_PAUSE_MS) || undefined,
  };
}
