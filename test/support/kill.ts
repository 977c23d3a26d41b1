import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Ran, TestSite } from "./site.js";

const stateOf = (pid: number): string => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
  } catch {
    return "gone";
  }
};

/** Starts the real command and waits until it has stopped itself at the named step. */
export async function runUntil(
  site: TestSite,
  step: string,
  args: string[],
): Promise<{ pid: number; ended: Promise<Ran> }> {
  const running = site.start(args, { JBACKUP_STOP_AT: step });
  for (let waited = 0; waited < 60_000; waited += 20) {
    const state = stateOf(running.pid);
    if (state === "T") return { pid: running.pid, ended: Promise.resolve(running) };
    if (state === "gone" || state === "Z") {
      const ran = await running;
      throw new Error(`it ended before the step ${step}: exit ${ran.code}\n${ran.stdout}${ran.stderr}`);
    }
    await delay(20);
  }
  process.kill(running.pid, "SIGKILL");
  throw new Error(`it never came to the step ${step}`);
}

export async function killAt(site: TestSite, step: string, args: string[]): Promise<void> {
  const { pid, ended } = await runUntil(site, step, args);
  process.kill(pid, "SIGKILL");
  const { signal } = await ended;
  if (signal !== "SIGKILL") throw new Error(`it was not killed but ended by ${signal}`);
}

/** Lets the stopped process go on with a signal waiting for it. */
export async function signalAt(
  site: TestSite,
  step: string,
  signal: NodeJS.Signals,
  args: string[],
): Promise<Ran> {
  const { pid, ended } = await runUntil(site, step, args);
  process.kill(pid, signal);
  process.kill(pid, "SIGCONT");
  return ended;
}

/** Lets the stopped process run to its end; a step that it passes more than once would stop it again. */
export async function resume({ pid, ended }: { pid: number; ended: Promise<Ran> }): Promise<Ran> {
  const again = setInterval(() => {
    try {
      process.kill(pid, "SIGCONT");
    } catch {
      clearInterval(again); // it has ended
    }
  }, 50);
  try {
    return await ended;
  } finally {
    clearInterval(again);
  }
}
