import type { RestoreMode } from "./backup.js";
import type { TimelineWish } from "./recoveryTarget.js";

export interface RestoreRequest {
  reference: string;
  mode: Exclude<RestoreMode, "pitr">;
  /** A moment after the backup, for physical ones; null: the backup as it is. */
  to: string | null;
  /** Of the WAL to that moment; without it the one that was in force then. */
  timeline?: TimelineWish | undefined;
  /** A database of another name; null: the one that the configuration protects. */
  intoDatabase: string | null;
  inPlace: boolean;
  onConflict: "skip" | "overwrite" | "fail";
  /** For merge: only these; all when empty. */
  tables: string[];
  reason: string;
  jobs: number;
}

/** How the target comes to its new content. */
export type DatabaseWay = "new" | "swap" | "in-place" | "merge";
/** As databases of a running server, or as the files of a cluster. */
export type RestoreWay = DatabaseWay | "directory" | "delta";

export interface RestorePlan {
  backupId: string;
  label: string;
  createdAt: string;
  mode: RestoreMode;
  way: RestoreWay;
  /** Of the WAL that is replayed; null without any. */
  timeline: number | null;
  target: string;
  /** The name that must be typed, when something would be overwritten. */
  overwrites: string | null;
  steps: string[];
  rawBytes: number;
  storages: string[];
  warnings: string[];
}

export interface RestoreFacts {
  backup: {
    id: string;
    label: string;
    createdAt: string;
    database: string;
    /** Null where only the cluster's files are known. */
    tables: number | null;
    rows: number | null;
    rawBytes: number;
  };
  /** For files: the moment at which a scratch server is brought up on them. */
  moment: string | null;
  timeline: number | null;
  target: string;
  targetExists: boolean;
  storages: string[];
  warnings: string[];
}

const wayOf = (request: RestoreRequest, facts: RestoreFacts): DatabaseWay => {
  if (request.mode === "merge") return "merge";
  if (request.inPlace) return "in-place";
  return facts.targetExists ? "swap" : "new";
};

const stepsOf = (
  way: DatabaseWay,
  request: RestoreRequest,
  { backup, target, moment }: RestoreFacts,
): string[] => {
  const fetch =
    moment === null
      ? `fetch and open ${backup.label} (database ${backup.database}, ${backup.tables} tables, ${backup.rows} rows)`
      : `bring ${backup.label} up on a scratch server as of ${moment}, and dump database ${backup.database} from it`;
  const check = `check that every table has as many rows as were recorded`;
  const beside = `restore it beside, with ${request.jobs} jobs, into a database that nobody else can enter`;
  switch (way) {
    case "new":
      return [fetch, beside, check, `give it the name ${target}`];
    case "swap":
      return [
        fetch,
        beside,
        check,
        `end the sessions on ${target}`,
        `swap by rename; the present ${target} is kept under another name`,
      ];
    case "in-place":
      return [fetch, `empty ${target} and fill it from the backup, in one transaction`, check];
    case "merge":
      return [
        fetch,
        beside,
        `bring missing rows of ${request.tables.length === 0 ? "all tables" : request.tables.join(", ")} into ${target} in one transaction; ${CONFLICTS[request.onConflict]}`,
        "drop the database beside",
      ];
  }
};

const CONFLICTS = {
  skip: "existing rows stay as they are",
  overwrite: "existing rows become what the backup says",
  fail: "stop without a change if an existing row differs",
} as const;

/** A merge in which existing rows win only adds. */
const overwritesNothing = (way: DatabaseWay, request: RestoreRequest): boolean =>
  way === "new" || (way === "merge" && request.onConflict !== "overwrite");

/** What a restore will do; the dry run prints it, the real run follows it. */
export function planRestore(request: RestoreRequest, facts: RestoreFacts): RestorePlan {
  const way = wayOf(request, facts);
  return {
    backupId: facts.backup.id,
    label: facts.backup.label,
    createdAt: facts.backup.createdAt,
    // a full restore of a moment is what people know as point in time
    mode: request.mode === "full" && request.to !== null ? "pitr" : request.mode,
    way,
    timeline: facts.timeline,
    target: facts.target,
    overwrites: overwritesNothing(way, request) ? null : facts.target,
    steps: stepsOf(way, request, facts),
    rawBytes: facts.backup.rawBytes,
    storages: facts.storages,
    warnings: facts.warnings,
  };
}
