import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { BIN, type TestSite } from "./site.js";

export interface Health {
  status: "ok" | "failing";
  problems: string[];
  catalog: "up" | "down" | "unknown";
  jobs: {
    name: string;
    running: boolean;
    pid: number | null;
    attempt: number;
    lastExitCode: number | null;
  }[];
  requests: string[];
  follower: { pid: number | null; restarts: number } | null;
}

export interface RunningDaemon {
  pid: number;
  log(): string;
  health(): Promise<Health & { code: number }>;
  /** Waits until it holds, or fails with what the daemon said. */
  until(what: string, holds: () => boolean | Promise<boolean>, ms?: number): Promise<void>;
  /** Its exit code, and how long it took to end. */
  stop(signal?: NodeJS.Signals): Promise<{ code: number | null; ms: number }>;
}

/** The real daemon, with its health endpoint on a port of the system's choice. */
export async function startDaemon(
  site: TestSite,
  environment: NodeJS.ProcessEnv = {},
  args: string[] = ["--health", "127.0.0.1:0"],
): Promise<RunningDaemon> {
  const child = spawn(process.execPath, [BIN, "schedule", "run", ...args], {
    env: { ...site.environment, JBACKUP_RETRY_PAUSE_MS: "500", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  const ended = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  const daemon: RunningDaemon = {
    pid: child.pid as number,
    log: () => said,
    async health() {
      const url = /health: (http\S+)/.exec(said)?.[1];
      const response = await fetch(url ?? "http://nowhere");
      return { ...((await response.json()) as Health), code: response.status };
    },
    async until(what, holds, ms = 90_000) {
      for (let waited = 0; waited < ms; waited += 50) {
        if (await holds()) return;
        if (child.exitCode !== null) break;
        await delay(50);
      }
      throw new Error(`not seen: ${what}\n${said}`);
    },
    async stop(signal = "SIGTERM") {
      const startedMs = performance.now();
      child.kill(signal);
      const [code] = await ended;
      return { code, ms: performance.now() - startedMs };
    },
  };
  if (args.includes("--health")) await daemon.until("its health endpoint", () => said.includes("health: "));
  return daemon;
}
