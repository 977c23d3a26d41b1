import { isJBackupError, type JBackupError, reasonOf } from "../../domain/errors.js";
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

/** Failed, failed a check, not found, refused: the backup is to blame. A key, a program or room that is missing here says nothing of it. */
const OF_THE_BACKUP: readonly number[] = [1, 4, 10, 14];

export const isFinding = (error: unknown): error is JBackupError =>
  isJBackupError(error) && OF_THE_BACKUP.includes(error.exitCode) && error.code !== "bug";

/** What PostgreSQL itself said, without the socket of a server that is gone by the time somebody reads it. */
function serversWords(error: JBackupError): string {
  const { code, message } = (error.cause ?? {}) as { code?: string; message?: string };
  const isServers = code !== undefined && /^[0-9A-Z]{5}$/.test(code);
  return isServers && message ? message : reasonOf(error);
}

const TELL_EVERY_MS = 500;

/** Writes down what is done and seen, as it happens. */
export class Protocol {
  readonly checks: Check[] = [];
  readonly timeline: TestReport["timeline"] = [];
  readonly remarks: string[] = [];
  readonly #site: Site;
  readonly #planned: number;

  /** `planned`: how many checks there will be, for those who watch. */
  constructor(site: Site, planned: number) {
    this.#site = site;
    this.#planned = planned;
  }

  async step<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
    const at = this.#site.clock.now().toISOString();
    const startedAt = this.#site.clock.monotonicMs();
    const stopTelling = this.#tell(what);
    try {
      return await work();
    } finally {
      stopTelling();
      this.note(at, what, this.#site.clock.monotonicMs() - startedAt);
    }
  }

  /** Most of what is done here says nothing while it is done. */
  #tell(what: string): () => void {
    const tell = (): void =>
      this.#site.report.progress({
        task: "test restore",
        done: this.checks.length,
        total: Math.max(this.#planned, this.checks.length),
        unit: "steps",
        extra: what,
      });
    tell();
    const timer = setInterval(tell, TELL_EVERY_MS);
    return () => clearInterval(timer);
  }

  note(at: string, what: string, durationMs: number): void {
    this.timeline.push({ at, what, durationMs: Math.round(durationMs) });
  }

  /** What went wrong outside of any check. */
  fail(name: string, why: string, durationMs: number): void {
    const what = "a server comes up on what is stored, and goes again";
    this.checks.push({ name, what, ...failed("no error", why), durationMs: Math.round(durationMs) });
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
