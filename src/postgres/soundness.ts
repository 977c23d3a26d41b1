import { access } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError } from "../domain/errors.js";
import { libpqVariables } from "./connection.js";
import { binariesFor } from "./logicalDump.js";
import type { RestoreSettings } from "./sideDatabase.js";
import { runTool, startTool, type ToolEnvironment } from "./tools.js";

export type Soundness =
  | { checked: true; program: string; problems: string[] }
  | { checked: false; why: string };

const MOST_LINES = 20;

const linesOf = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

/** Every table and B-tree index of every database, by PostgreSQL's own checker. Installs it where it is missing: for servers of our own only. */
export async function amcheck(settings: RestoreSettings, major: number): Promise<Soundness> {
  const program = "pg_amcheck";
  let folder: string;
  try {
    folder = (await binariesFor(program, major, settings)).path;
  } catch (error) {
    if (!isJBackupError(error, "environment", "version_mismatch")) throw error;
    return { checked: false, why: error.message };
  }
  const run = startTool(join(folder, program), ["--all", "--install-missing", "--jobs=2", "--no-password"], {
    environment: settings.environment,
    variables: libpqVariables(settings.target, settings.user),
    signal: settings.signal,
  });
  const chunks: Buffer[] = [];
  for await (const chunk of run.stdout) chunks.push(chunk as Buffer);
  const found = linesOf(Buffer.concat(chunks).toString("utf8"));
  try {
    await run.done;
    return { checked: true, program, problems: found.slice(0, MOST_LINES) };
  } catch (error) {
    settings.signal.throwIfAborted();
    if (!isJBackupError(error, "tool_failed")) throw error;
    const stderr = String(error.details?.stderr ?? "");
    if (/extension "amcheck" is not available/.test(stderr))
      return { checked: false, why: "the server lacks the extension amcheck (postgresql-contrib brings it)" };
    return { checked: true, program, problems: [...found, error.message].slice(0, MOST_LINES) };
  }
}

export interface StoppedCluster {
  dataDirectory: string;
  binDirectory: string;
  environment: ToolEnvironment;
  owner: { uid: number; gid: number } | null;
  signal: AbortSignal;
}

/** The checksum of every page on disk. The server must have been shut down in order. */
export async function checkPageChecksums(cluster: StoppedCluster): Promise<Soundness> {
  const program = "pg_checksums";
  const file = join(cluster.binDirectory, program);
  try {
    await access(file);
  } catch {
    return { checked: false, why: `${program} was not found in ${cluster.binDirectory}` };
  }
  try {
    await runTool(file, ["--check", "-D", cluster.dataDirectory], {
      environment: cluster.environment,
      owner: cluster.owner ?? undefined,
      directory: "/",
      signal: cluster.signal,
    });
    return { checked: true, program, problems: [] };
  } catch (error) {
    cluster.signal.throwIfAborted();
    if (!isJBackupError(error, "tool_failed")) throw error;
    const lines = linesOf(String(error.details?.stderr ?? error.message));
    return { checked: true, program, problems: lines.slice(0, MOST_LINES) };
  }
}
