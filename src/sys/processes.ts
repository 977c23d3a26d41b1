import { readFileSync } from "node:fs";

/** A process that can be told apart from a later one with the same number. */
export interface ProcessMark {
  pid: number;
  /** Kernel start time in ticks where /proc knows it, else null. */
  startTicks: string | null;
  bootId: string | null;
}

export function isProcessMark(value: unknown): value is ProcessMark {
  const { pid, startTicks, bootId: boot } = (value ?? {}) as Record<string, unknown>;
  const isTextOrNull = (one: unknown): boolean => one === null || typeof one === "string";
  return Number.isSafeInteger(pid) && Number(pid) > 0 && isTextOrNull(startTicks) && isTextOrNull(boot);
}

const readOrNull = (path: string): string | null => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // no /proc here, or the process is gone: both mean "not known"
  }
};

const startTicksOf = (pid: number): string | null => {
  const stat = readOrNull(`/proc/${pid}/stat`);
  // the command name may hold spaces and brackets, so count from behind its closing one
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
};

const bootId = (): string | null => readOrNull("/proc/sys/kernel/random/boot_id")?.trim() ?? null;

export const markOf = (pid: number): ProcessMark => ({
  pid,
  startTicks: startTicksOf(pid),
  bootId: bootId(),
});

export const ownMark = (): ProcessMark => markOf(process.pid);

export function isAlive(mark: ProcessMark): boolean {
  if (mark.bootId !== null && mark.bootId !== bootId()) return false;
  try {
    process.kill(mark.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  return mark.startTicks === null || startTicksOf(mark.pid) === mark.startTicks;
}
