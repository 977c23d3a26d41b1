import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

export interface Measured {
  seconds: number;
  /** The most memory that all its processes held at one time. */
  peakMib: number;
}

export interface Process {
  pid: number;
  ended: Promise<{ code: number | null; stderr: string }>;
}

const childrenOf = (): Map<number, number[]> => {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      // it has ended meanwhile
    }
  }
  return children;
};

const residentMib = (pid: number): number => {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0; // it has ended
  }
};

export function residentOfAll(pid: number): number {
  const children = childrenOf();
  const all = (one: number): number =>
    residentMib(one) + (children.get(one) ?? []).reduce((sum, child) => sum + all(child), 0);
  return all(pid);
}

/** Until the process ends, or until `isDone` says that what is measured has happened. */
export async function measure({ pid, ended }: Process): Promise<Measured> {
  const started = performance.now();
  let peakMib = 0;
  const timer = setInterval(() => {
    peakMib = Math.max(peakMib, residentOfAll(pid));
  }, 50);
  const { code, stderr } = await ended;
  clearInterval(timer);
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
  return { seconds: (performance.now() - started) / 1000, peakMib };
}

export interface ShellOptions {
  env?: NodeJS.ProcessEnv;
  owner?: { uid: number; gid: number } | null;
}

export function shell(script: string, { env = process.env, owner }: ShellOptions = {}): Process {
  const child = spawn("bash", ["-euo", "pipefail", "-c", script], {
    env,
    cwd: "/",
    stdio: ["ignore", "ignore", "pipe"],
    ...(owner ? { uid: owner.uid, gid: owner.gid } : {}),
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stderr }));
  });
  return { pid: child.pid as number, ended };
}

export const median = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
