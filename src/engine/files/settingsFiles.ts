import { constants } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { PhysicalFacts } from "../../domain/physical.js";
import { backupManifest, type ListedFile } from "./backupManifest.js";

/** What a server in recovery must have at least as many of as the server that wrote the WAL. */
const LEAST = [
  "max_connections",
  "max_worker_processes",
  "max_wal_senders",
  "max_prepared_transactions",
  "max_locks_per_transaction",
];

export const leastSettings = ({ settings }: PhysicalFacts): Record<string, string> =>
  Object.fromEntries(Object.entries(settings).filter(([name]) => LEAST.includes(name)));

/** Files of the old cluster's life that must not steer the restored one. */
export const LEFT_OUT = new Set([
  "standby.signal",
  "recovery.signal",
  "backup_label",
  "tablespace_map",
  "postmaster.pid",
  "postmaster.opts",
]);

/** The restored cluster must not write into the production archive, nor wait for standbys that it does not have. */
const ADOPT = [
  "# Written by jbackup restore. Remove these lines when this cluster takes over.",
  "archive_mode = 'off'",
  "synchronous_standby_names = ''",
  "primary_conninfo = ''",
  "primary_slot_name = ''",
];

/** Targets of an earlier recovery: the server takes no two of them. */
const withoutTargets = (text: string): string =>
  text
    .split("\n")
    .filter((line) => !/^\s*recovery_target(_time|_lsn|_name|_xid)?\b/.test(line))
    .join("\n")
    .trimEnd();

const WRITTEN_ANEW = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;

interface Finishing {
  facts: PhysicalFacts;
  directory: string;
  owner: { uid: number; gid: number } | null;
  /** Archive recovery follows: without it the server only makes the backup consistent. */
  isRecovery: boolean;
  /** What was laid out. */
  files: ListedFile[];
}

export async function writeSettingsFiles(finishing: Finishing): Promise<void> {
  const { facts, directory, owner, isRecovery, files } = finishing;
  const written: ListedFile[] = [];
  const write = async (name: string, text: string): Promise<void> => {
    const path = join(directory, name);
    written.push({ path: name, size: Buffer.byteLength(text) });
    const file = await open(path, WRITTEN_ANEW, 0o600);
    try {
      await file.writeFile(text);
      if (owner) await file.chown(owner.uid, owner.gid);
      await file.sync();
    } finally {
      await file.close();
    }
  };
  await write("backup_label", facts.backupLabel);
  if (isRecovery) await write("recovery.signal", "");
  const auto = await textOf(join(directory, "postgresql.auto.conf"));
  await write("postgresql.auto.conf", `${withoutTargets(auto)}\n${ADOPT.join("\n")}\n`);
  if (!facts.hasOwnConfiguration) {
    await write("postgresql.conf", configurationFor(facts));
    await write("pg_hba.conf", ACCESS);
    await write("pg_ident.conf", "");
  }
  await write("backup_manifest", backupManifest(facts, [...files, ...written]));
}

const ACCESS =
  "# Written by jbackup: only the operating system's own users, each as himself.\nlocal all all peer\n";

const configurationFor = (facts: PhysicalFacts): string =>
  [
    "# Written by jbackup: the cluster keeps its own configuration outside of its data directory.",
    "# Put that one here, or start the server with -c config_file=..., before the application comes back.",
    "listen_addresses = 'localhost'",
    ...Object.entries(leastSettings(facts)).map(([name, value]) => `${name} = ${value}`),
    "",
  ].join("\n");

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
