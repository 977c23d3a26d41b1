import { readdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { execa, type ResultPromise } from "execa";
import { JBackupError, reasonOf } from "../domain/errors.js";

/** What every spawned program needs and nothing more: no inherited secrets. */
export interface ToolEnvironment {
  path: string;
  home: string;
}

export interface ToolOptions {
  environment: ToolEnvironment;
  /** Added variables: libpq's connection settings, for instance. */
  variables?: Record<string, string>;
  directory?: string;
  owner?: { uid: number; gid: number } | undefined;
  signal?: AbortSignal | undefined;
  input?: "pipe" | "ignore";
}

export interface ToolRun {
  stdin: Writable | null;
  stdout: Readable;
  /** Settles when the program ended and its output was judged; answers its stderr. */
  done: Promise<string>;
}

const KEPT_STDERR_BYTES = 16_384;

/** Programs print errors and still exit 0; a line like these is never success. */
const ERROR_LINE = /(^|\s)(error|fatal|panic):/i;

const lastLines = (text: string, count = 4): string => text.trim().split("\n").slice(-count).join("; ");

const nameOf = (file: string): string => file.slice(file.lastIndexOf("/") + 1);

function spawnTool(file: string, args: string[], options: ToolOptions): ResultPromise {
  return execa(file, args, {
    buffer: false,
    reject: false,
    extendEnv: false,
    cwd: options.directory ?? "/",
    env: {
      PATH: options.environment.path,
      HOME: options.environment.home,
      LC_ALL: "C.UTF-8",
      LC_MESSAGES: "C",
      LANGUAGE: "C",
      ...options.variables,
    },
    stdin: options.input ?? "ignore",
    forceKillAfterDelay: 5_000,
    ...(options.signal ? { cancelSignal: options.signal } : {}),
    ...(options.owner ? { uid: options.owner.uid, gid: options.owner.gid } : {}),
  }) as unknown as ResultPromise;
}

/** Starts a program whose output is streamed. Its `done` must be awaited: only that tells whether it worked. */
export function startTool(file: string, args: string[], options: ToolOptions): ToolRun {
  const child = spawnTool(file, args, options);
  const tool = nameOf(file);
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-KEPT_STDERR_BYTES);
  });
  const done = (async () => {
    const result = await child;
    if (options.signal?.aborted) throw options.signal.reason;
    if (result.code === "ENOENT") {
      throw new JBackupError("environment", `${tool} was not found`, {
        hint: `install the PostgreSQL client programs, or set database.binDirectory to the folder that holds ${tool}`,
      });
    }
    if (result.exitCode !== 0 || result.signal !== undefined) {
      const how = result.signal
        ? `was killed by ${result.signal}`
        : `ended with code ${result.exitCode ?? "?"}`;
      const why = stderr.trim() === "" ? "it printed nothing" : lastLines(stderr);
      throw new JBackupError("tool_failed", `${tool} ${how}: ${why}`, { details: { stderr } });
    }
    if (stderr.split("\n").some((line) => ERROR_LINE.test(line))) {
      throw new JBackupError("tool_failed", `${tool} ended with code 0 but reported: ${lastLines(stderr)}`);
    }
    return stderr;
  })();
  done.catch(() => undefined); // awaited later: must not count as unhandled meanwhile
  if (child.stdout === null) throw new JBackupError("bug", `${tool} has no output stream`);
  return { stdin: child.stdin, stdout: child.stdout, done };
}

/** Runs a program to its end and answers what it printed; for small outputs. */
export async function runTool(file: string, args: string[], options: ToolOptions): Promise<string> {
  const run = startTool(file, args, options);
  const chunks: Buffer[] = [];
  for await (const chunk of run.stdout) chunks.push(chunk as Buffer);
  await run.done;
  return Buffer.concat(chunks).toString("utf8");
}

const foldersBelow = async (parent: string, inner: string): Promise<string[]> => {
  try {
    return (await readdir(parent)).map((name) => join(parent, name, inner));
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
};

export interface BinDirectory {
  path: string;
  major: number;
}

const majorIn = (versionLine: string): number | null => {
  const found = /\(PostgreSQL\) (\d+)/.exec(versionLine);
  return found ? Number(found[1]) : null;
};

async function probe(
  path: string,
  program: string,
  environment: ToolEnvironment,
): Promise<BinDirectory | null> {
  try {
    const major = majorIn(await runTool(join(path, program), ["--version"], { environment }));
    return major === null ? null : { path, major };
  } catch (error) {
    if (error instanceof JBackupError) return null; // not there or not runnable: one candidate fewer
    throw new JBackupError("bug", `cannot probe ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Every folder on this machine that holds the program, newest PostgreSQL first. */
export async function findBinDirectories(
  program: string,
  environment: ToolEnvironment,
  configured: string | "auto" = "auto",
): Promise<BinDirectory[]> {
  const candidates =
    configured === "auto"
      ? [
          ...(await foldersBelow("/usr/lib/postgresql", "bin")),
          ...(await foldersBelow("/usr", "bin")).filter((folder) => /\/pgsql-\d+\/bin$/.test(folder)),
          ...environment.path.split(delimiter).filter((folder) => folder !== ""),
        ]
      : [configured];
  const configBin =
    configured === "auto" ? await runTool("pg_config", ["--bindir"], { environment }).catch(() => "") : "";
  const folders = [...new Set([configBin.trim(), ...candidates].filter((folder) => folder !== ""))];
  const found = await Promise.all(folders.map((folder) => probe(folder, program, environment)));
  return found.filter((entry) => entry !== null).sort((a, b) => b.major - a.major);
}
