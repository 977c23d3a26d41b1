import { execFileSync, spawnSync } from "node:child_process";
import { chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Measured, measure, shell } from "./measure.ts";

export interface Peer {
  version: string;
  archiveCommand: string;
  /** What it stores in its repository. */
  repository: string;
  create(): Promise<void>;
  backup(type: "full" | "incr"): Promise<Measured>;
  restore(directory: string, isDelta: boolean): Promise<Measured>;
}

export interface PeerSettings {
  folder: string;
  dataDirectory: string;
  socketDirectory: string;
  owner: { uid: number; gid: number } | null;
  processes: number;
}

const isThere = (): boolean => spawnSync("pgbackrest", ["version"]).status === 0;

/** Null, with the reason, when it cannot be had here. */
export function findPgBackRest(settings: PeerSettings): Peer | string {
  if (!isThere() && process.getuid?.() === 0)
    spawnSync("apt-get", ["-q", "install", "-y", "--no-install-recommends", "pgbackrest"], {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    });
  if (!isThere()) return "pgBackRest is not installed: apt-get install pgbackrest";
  const { folder, owner } = settings;
  for (const name of ["", "repo", "log", "lock", "spool"]) {
    mkdirSync(join(folder, name), { recursive: true, mode: 0o700 });
    if (owner) chownSync(join(folder, name), owner.uid, owner.gid);
  }
  const file = join(folder, "pgbackrest.conf");
  writeFileSync(file, configuration(settings));
  if (owner) chownSync(file, owner.uid, owner.gid);
  const command = `pgbackrest --config=${file} --stanza=bench`;
  const run = (args: string): Promise<Measured> => measure(shell(`${command} ${args}`, { owner }));
  return {
    version: execFileSync("pgbackrest", ["version"], { encoding: "utf8" }).trim(),
    archiveCommand: `${command} archive-push %p`,
    repository: join(folder, "repo"),
    create: async () => {
      await run("stanza-create");
    },
    backup: (type) => run(`--type=${type} backup`),
    restore: (directory, isDelta) =>
      run(`--pg1-path=${directory} --archive-mode=off ${isDelta ? "--delta " : ""}restore`),
  };
}

const configuration = ({ folder, dataDirectory, socketDirectory, processes }: PeerSettings): string =>
  [
    "[global]",
    `repo1-path=${join(folder, "repo")}`,
    "repo1-cipher-type=aes-256-cbc",
    "repo1-cipher-pass=only-a-benchmark",
    "repo1-bundle=y",
    "repo1-retention-full=9",
    "compress-type=zst",
    "compress-level=3",
    `process-max=${processes}`,
    "start-fast=y",
    ...["log", "lock", "spool"].map((name) => `${name}-path=${join(folder, name)}`),
    "[global:archive-push]",
    "archive-async=y",
    "[bench]",
    `pg1-path=${dataDirectory}`,
    `pg1-socket-path=${socketDirectory}`,
    "pg1-user=postgres",
    "",
  ].join("\n");
