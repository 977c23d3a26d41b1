import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

export interface Measured {
  seconds: number;
  /** The most memory that all its processes held at one time. */
  peakMib: number;
  /** Processor time of all its processes: other work on the machine changes it far less than it changes the seconds. */
  cpuSeconds: number;
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

const TICKS_PER_SECOND = 100;

/** Memory, and processor time with that of the children that have ended. */
function usageOf(pid: number): { residentMib: number; cpuSeconds: number } {
  try {
    const resident = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // after the name, which may hold spaces, utime, stime, cutime and cstime are the twelfth to the fifteenth
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    return { residentMib: Number(resident ?? 0) / 1024, cpuSeconds: ticks / TICKS_PER_SECOND };
  } catch {
    return { residentMib: 0, cpuSeconds: 0 }; // it has ended
  }
}

/** Of a process and all its descendants. */
export function usageOfAll(pid: number): { residentMib: number; cpuSeconds: number } {
  const children = childrenOf();
  const all = (one: number): { residentMib: number; cpuSeconds: number } =>
    (children.get(one) ?? []).map(all).reduce(
      (sum, usage) => ({
        residentMib: sum.residentMib + usage.residentMib,
        cpuSeconds: sum.cpuSeconds + usage.cpuSeconds,
      }),
      usageOf(one),
    );
  return all(pid);
}

/** Until the process ends, or until `isDone` says that what is measured has happened. */
export async function measure({ pid, ended }: Process): Promise<Measured> {
  const started = performance.now();
  let peakMib = 0;
  let cpuSeconds = 0;
  const timer = setInterval(() => {
    const usage = usageOfAll(pid);
    peakMib = Math.max(peakMib, usage.residentMib);
    cpuSeconds = Math.max(cpuSeconds, usage.cpuSeconds);
  }, 50);
  const { code, stderr } = await ended;
  clearInterval(timer);
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
  return { seconds: (performance.now() - started) / 1000, peakMib, cpuSeconds };
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
