import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { Check, CheckStatus, TestReport } from "../../domain/testReport.js";
import type { Site } from "../site.js";

export interface Verdict {
  status: CheckStatus;
  expected: string;
  seen: string;
}

export const passed = (expected: string, seen: string): Verdict => ({ status: "passed", expected, seen });
export const failed = (expected: string, seen: string): Verdict => ({ status: "failed", expected, seen });
export const noted = (expected: string, seen: string): Verdict => ({ status: "noted", expected, seen });
export const skipped = (expected: string, why: string): Verdict => ({
  status: "skipped",
  expected,
  seen: why,
});

/** Whether a backup that could not be brought up is to blame; a bug, and what is missing on this machine, do not say so. */
export const isFinding = (error: unknown): error is JBackupError =>
  error instanceof JBackupError && (error.exitCode === 1 || error.exitCode === 4) && error.code !== "bug";

/** What PostgreSQL itself said, without the socket of a server that is gone by the time somebody reads it. */
function serversWords(error: JBackupError): string {
  const { code, message } = (error.cause ?? {}) as { code?: string; message?: string };
  const isServers = code !== undefined && /^[0-9A-Z]{5}$/.test(code);
  return isServers && message ? message : reasonOf(error);
}

/** Writes down what is done and seen, as it happens. */
export class Protocol {
  readonly checks: Check[] = [];
  readonly timeline: TestReport["timeline"] = [];
  readonly remarks: string[] = [];
  readonly #site: Site;

  constructor(site: Site) {
    this.#site = site;
  }

  async step<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
    const at = this.#site.clock.now().toISOString();
    const startedAt = this.#site.clock.monotonicMs();
    this.#site.report.progress({ task: what, done: this.timeline.length, total: null, unit: "steps" });
    try {
      return await work();
    } finally {
      this.note(at, what, this.#site.clock.monotonicMs() - startedAt);
    }
  }

  note(at: string, what: string, durationMs: number): void {
    this.timeline.push({ at, what, durationMs: Math.round(durationMs) });
  }

  /** What goes wrong in a check is what it found; the next one is made all the same. */
  async check(name: string, what: string, work: () => Promise<Verdict>): Promise<Check> {
    const startedAt = this.#site.clock.monotonicMs();
    const verdict = await this.step(`check: ${name}`, async () => {
      try {
        return await work();
      } catch (error) {
        this.#site.signal.throwIfAborted();
        if (!isJBackupError(error) || error.code === "bug") throw error;
        return failed("an answer", serversWords(error));
      }
    });
    const check = {
      name,
      what,
      ...verdict,
      durationMs: Math.round(this.#site.clock.monotonicMs() - startedAt),
    };
    this.checks.push(check);
    if (check.status === "skipped") this.remarks.push(`${name} was not checked: ${check.seen}`);
    return check;
  }
}
