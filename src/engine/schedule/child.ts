import type { Site } from "../site.js";

export interface JobEnd {
  /** null: a signal ended it. */
  exitCode: number | null;
  /** Why it failed, in its own words. */
  error: string | null;
  durationMs: number;
}

/** What tests set for one process must not reach its children. */
const NOT_PASSED_ON = new Set(["JBACKUP_STOP_AT"]);

/** One jbackup command in a process of its own: whatever becomes of it, this one goes on. Its warnings are repeated. */
export async function runJob(
  site: Site,
  name: string,
  words: readonly string[],
  onStart: (pid: number) => void = () => undefined,
): Promise<JobEnd> {
  const startedMs = site.clock.monotonicMs();
  const ran = await site.again([...words, "--config", site.config.file, "--json", "--no-input"], {
    variables: site.environment.without(NOT_PASSED_ON),
    directory: site.environment.workingDirectory,
    signal: site.signal,
    onStart,
    onErrorLine: (line) => {
      const warning = warningIn(line);
      if (warning !== null) site.report.warn(`${name}: ${warning}`);
    },
  });
  const how = ran.signal === null ? null : `it was ended by ${ran.signal}`;
  const failed = ran.code === 0 ? null : (errorIn(ran.stdout) ?? how ?? lastLine(ran.stderr));
  return { exitCode: ran.code, error: failed, durationMs: site.clock.monotonicMs() - startedMs };
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null; // whatever else stands there was not written by us
  }
}

function warningIn(line: string): string | null {
  const event = parsed(line);
  return event?.event === "warning" && typeof event.message === "string" ? event.message : null;
}

function errorIn(stdout: string): string | null {
  const error = parsed(stdout)?.error;
  if (typeof error !== "object" || error === null) return null;
  const { message } = error as { message?: unknown };
  return typeof message === "string" ? message : null;
}

const lastLine = (text: string): string | null => text.trim().split("\n").at(-1) || null;
