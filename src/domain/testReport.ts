import type { BackupMethod, StorageKind } from "./backup.js";
import type { ComparedTable } from "./census.js";

/** Noted: looked at, with nothing to be held against it. Skipped: could not be looked at, and why. */
export type CheckStatus = "passed" | "failed" | "noted" | "skipped";

export interface Check {
  name: string;
  /** What is looked at, for somebody who does not know jbackup. */
  what: string;
  status: CheckStatus;
  expected: string;
  seen: string;
  durationMs: number;
}

/** A test restore, as those who ask for proof want it: what, when, from where, every check with what it expected and saw. */
export interface TestReport {
  kind: "test-restore";
  format: 1;
  id: string;
  site: string;
  host: string;
  by: string;
  jbackup: string;
  status: "passed" | "failed";
  startedAt: string;
  finishedAt: string;
  durationMs: number;
  backup: {
    id: string;
    label: string;
    method: BackupMethod;
    createdAt: string;
    finishedAt: string;
    /** SHA-256 of the signed manifest, which commits to every object of the backup. */
    manifestSha256: string;
    signer: string;
    madeWith: string;
    serverVersion: string;
    /** Older backups whose blocks it refers to. */
    buildsOn: string[];
    bytes: number;
  };
  recovery: {
    /** The last moment that the restored data is known to hold. */
    recoveredTo: string;
    lastCommitAt: string | null;
    replayedLsn: string | null;
    walFiles: number;
    serverVersion: string;
  } | null;
  /** How many sealed objects were read, and where. */
  storages: { name: string; kind: StorageKind; location: string; objects: number; bytes: number }[];
  objectives: { rtoMs: number; rpoMs: number };
  /** From the start until the database could be used. */
  rtoMs: number | null;
  /** How old the newest recovered work was when the test began. */
  rpoMs: number | null;
  missed: ("rto" | "rpo")[];
  /** Why an objective is not judged, if it is not. */
  unjudged: string | null;
  checks: Check[];
  tables: ComparedTable[];
  /** Whether `tables` were counted when the backup was made, or estimated by the server. */
  rowsRecorded: "counted" | "estimated" | "not";
  timeline: { at: string; what: string; durationMs: number }[];
  remarks: string[];
}

export interface SignedReport {
  report: TestReport;
  /** Over the report as JSON, in the domain "test restore". Null where this host holds no signing key. */
  signature: { signer: string; value: string } | null;
}

export const SIGNED_AS = "test restore";

export const signedText = (report: TestReport): string => JSON.stringify(report);

/** Longer than the objective is missed; what was not measured is not judged. */
export const missedOf = (
  measured: { rtoMs: number | null; rpoMs: number | null },
  objectives: { rtoMs: number; rpoMs: number },
): ("rto" | "rpo")[] =>
  (["rto", "rpo"] as const).filter((one) => (measured[`${one}Ms`] ?? 0) > objectives[`${one}Ms`]);

/** One failed check fails the test; what was only skipped or noted does not. */
export const statusOf = (checks: Pick<Check, "status">[]): TestReport["status"] =>
  checks.some(({ status }) => status === "failed") || !checks.some(({ status }) => status === "passed")
    ? "failed"
    : "passed";
