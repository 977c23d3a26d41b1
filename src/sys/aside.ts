import { type ChildProcess, spawn } from "node:child_process";

/** What this program is started with, absolute; words follow. */
export const ownProgram = (): string[] => [process.execPath, ...process.execArgv, process.argv[1] ?? ""];

/** Starts this program once more with other words. It is on its own: it lives on when this process ends, and nobody hears from it. */
export function startAside(args: string[]): void {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? "", ...args], {
    detached: true,
    stdio: "ignore",
    cwd: process.cwd(),
  });
  child.on("error", () => undefined); // whoever starts it does without it as well
  child.unref();
}

export interface ProgramWish {
  /** The whole environment of the program. */
  variables: Record<string, string>;
  directory: string;
  signal: AbortSignal;
  /** Told the process's number, so that a later run can wait for it. */
  onStart(pid: number): void;
  onErrorLine(line: string): void;
}

export interface EndedProgram {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

const KEPT = 1_000_000;
const KILL_AFTER_MS = 9_000;

/** This program once more, in a process that stops and cleans up when this one dies, however it dies. */
export function runAgain(args: string[], wish: ProgramWish): Promise<EndedProgram> {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? "", ...args], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    env: wish.variables,
    cwd: wish.directory,
    // a Ctrl-C goes to this process, which passes it on once
    detached: true,
  });
  return ended(child, wish);
}

export function runShell(script: string, wish: ProgramWish): Promise<EndedProgram> {
  const child = spawn("/bin/sh", ["-c", script], {
    stdio: ["ignore", "pipe", "pipe"],
    env: wish.variables,
    cwd: wish.directory,
    detached: true,
  });
  return ended(child, wish);
}

export interface SmallProgram {
  path: string;
  signal: AbortSignal;
  input?: string;
  timeoutMs?: number;
}

const SMALL_MS = 30_000;

/** A small program of the host, found on the path, that says something and ends. Null where there is none of this name. */
export async function runProgram(
  file: string,
  args: string[],
  { path, signal, input, timeoutMs = SMALL_MS }: SmallProgram,
): Promise<EndedProgram | null> {
  const child = spawn(file, args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { PATH: path, LC_ALL: "C.UTF-8" },
    cwd: "/",
    detached: true,
  });
  child.stdin.on("error", () => undefined); // it ended without reading: its code tells
  child.stdin.end(input ?? "");
  const nothing = (): void => undefined;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  try {
    return await ended(child, {
      variables: {},
      directory: "/",
      signal: limited,
      onStart: nothing,
      onErrorLine: nothing,
    });
  } catch (error) {
    if (["ENOENT", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}

function ended(child: ChildProcess, { signal, onStart, onErrorLine }: ProgramWish): Promise<EndedProgram> {
  return new Promise((resolve, reject) => {
    let [stdout, stderr, line] = ["", "", ""];
    const end = (how: NodeJS.Signals): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, how);
      } catch {
        // it has ended by itself
      }
    };
    let killing: NodeJS.Timeout | undefined;
    const stop = (): void => {
      end("SIGTERM");
      killing = setTimeout(() => end("SIGKILL"), KILL_AFTER_MS);
    };
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout = (stdout + text).slice(-KEPT);
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-KEPT);
      const lines = (line + text).split("\n");
      line = lines.pop() ?? "";
      for (const whole of lines) onErrorLine(whole);
    });
    const settle = (): void => {
      clearTimeout(killing);
      signal.removeEventListener("abort", stop);
    };
    child.on("error", (error) => {
      settle();
      reject(error);
    });
    child.on("close", (code, how) => {
      settle();
      resolve({ code, signal: how, stdout, stderr });
    });
    signal.addEventListener("abort", stop, { once: true });
    if (child.pid !== undefined) onStart(child.pid);
    if (signal.aborted) stop();
  });
}
