import {
  type ExpressionBuilder,
  type ExpressionWrapper,
  type Kysely,
  type SelectQueryBuilder,
  type SqlBool,
  sql,
} from "kysely";
import type { Backup, Restore } from "../domain/backup.js";
import type {
  AlertFilter,
  BackupFilter,
  DeliveryFilter,
  JobRequestFilter,
  RestoreFilter,
  RunFilter,
  VerificationFilter,
} from "./catalog.js";
import { isoTime, plainText } from "./rows.js";
import type { Tables } from "./tables.js";

type Query<Table extends keyof Tables> = SelectQueryBuilder<Tables, Table, Tables[Table]>;

// In all of these the id settles the order of records of the same millisecond: a listing is the same every time.

export function backupQuery(db: Kysely<Tables>, filter: BackupFilter): Query<"backups"> {
  const { kind, status, tenantId, since, until, limit, behind } = filter;
  let query = db.selectFrom("backups").selectAll().orderBy("created_at", "desc").orderBy("id", "desc");
  if (kind !== undefined) query = query.where("kind", "=", kind);
  if (status !== undefined) query = withStatus(query, status, UNUSABLE);
  if (tenantId !== undefined) query = query.where("tenant_id", "=", plainText(tenantId));
  if (since !== undefined) query = query.where("created_at", ">=", isoTime(since));
  if (until !== undefined) query = query.where("created_at", "<", isoTime(until));
  if (behind !== undefined) query = query.where((is) => isBehind(is, behind));
  return limit === undefined ? query : query.limit(limit);
}

/** The first condition says nothing new; by it both databases begin at the right place of their index. */
const isBehind = (
  is: ExpressionBuilder<Tables, "backups">,
  { createdAt, id }: Pick<Backup, "createdAt" | "id">,
): ExpressionWrapper<Tables, "backups", SqlBool> => {
  const at = isoTime(createdAt);
  return is.and([
    is("created_at", "<=", at),
    is.or([is("created_at", "<", at), is.and([is("created_at", "=", at), is("id", "<", plainText(id))])]),
  ]);
};

const UNUSABLE: Backup["status"][] = ["in_progress", "failed", "interrupted"];
const UNFINISHED: Restore["status"][] = ["in_progress", "failed", "cancelled"];

/**
 * The statuses that few records have stand in an index of their own, which both databases take only for a condition
 * that is written as the index has it.
 */
function withStatus<Table extends "backups" | "restores", Status extends string>(
  query: Query<Table>,
  wanted: Status[],
  rare: Status[],
): Query<Table> {
  const asked = query.where(sql.ref("status"), "in", oneOf(wanted));
  if (wanted.length === 0 || !wanted.every((status) => rare.includes(status))) return asked;
  return asked.where(sql<boolean>`status in (${sql.join(rare.map((status) => sql.lit(status)))})`);
}

export const named = (query: Query<"backups">, name: string): Query<"backups"> =>
  query.where((is) => is.or([is("id", "=", name), is("label", "=", name)]));

/** By comparison rather than LIKE: nothing in a prefix has a special meaning, and an index answers it on both databases. */
export function beginningWith(query: Query<"backups">, prefix: string): Query<"backups"> {
  const end = firstBehind(prefix);
  return query.where((is) =>
    is.or([
      is.and([is("id", ">=", prefix), is("id", "<", end)]),
      is.and([is("label", ">=", prefix), is("label", "<", end)]),
    ]),
  );
}

/** Text in the order of its UTF-8 bytes, which is the order of code points: the first one that no longer begins so. */
export function firstBehind(prefix: string): string {
  const points = [...prefix].map((letter) => letter.codePointAt(0) ?? 0);
  while (points.at(-1) === 0x10ffff) points.pop();
  const last = points.pop();
  if (last === undefined) return "\u{10ffff}".repeat(256);
  return String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1);
}

export function restoreQuery(db: Kysely<Tables>, filter: RestoreFilter): Query<"restores"> {
  const { backupId, status, since, limit } = filter;
  let query = db.selectFrom("restores").selectAll().orderBy("started_at", "desc").orderBy("id", "desc");
  if (backupId !== undefined) query = query.where("backup_id", "=", plainText(backupId));
  if (status !== undefined) query = withStatus(query, status, UNFINISHED);
  if (since !== undefined) query = query.where("started_at", ">=", isoTime(since));
  return limit === undefined ? query : query.limit(limit);
}

export function alertQuery(db: Kysely<Tables>, filter: AlertFilter): Query<"alerts"> {
  const { type, status, severity, backupId, fingerprint, since, limit } = filter;
  let query = db.selectFrom("alerts").selectAll().orderBy("created_at", "desc").orderBy("id", "desc");
  if (type !== undefined) query = query.where("type", "=", type);
  if (status !== undefined) query = query.where("status", "in", oneOf(status));
  if (severity !== undefined) query = query.where("severity", "in", oneOf(severity));
  if (backupId !== undefined) query = query.where("backup_id", "=", plainText(backupId));
  if (fingerprint !== undefined) query = query.where("fingerprint", "=", plainText(fingerprint));
  if (since !== undefined) query = query.where("created_at", ">=", isoTime(since));
  return limit === undefined ? query : query.limit(limit);
}

export function runQuery(db: Kysely<Tables>, filter: RunFilter): Query<"runs"> {
  const { job, status, scope, oldestFirst = false, limit } = filter;
  const order = oldestFirst ? "asc" : "desc";
  let query = db.selectFrom("runs").selectAll().orderBy("started_at", order).orderBy("id", order);
  if (job !== undefined) query = query.where("job", "=", plainText(job));
  if (status !== undefined) query = query.where("status", "in", oneOf(status));
  if (scope !== undefined)
    for (const other of OTHER_SCOPES) query = query.where("metadata", "not like", `%"scope":"${other}"%`);
  return limit === undefined ? query : query.limit(limit);
}

/** Metadata is JSON text that we wrote: a key and its text stand there in one way only, and never inside of another text. */
const OTHER_SCOPES = ["part", "refused"];

export function verificationQuery(db: Kysely<Tables>, filter: VerificationFilter): Query<"verifications"> {
  const { backupId, level, status, storage, since, limit } = filter;
  let query = db.selectFrom("verifications").selectAll().orderBy("checked_at", "desc").orderBy("id", "desc");
  if (backupId !== undefined) query = query.where("backup_id", "=", plainText(backupId));
  if (level !== undefined) query = query.where("level", "=", level);
  if (status !== undefined) query = query.where("status", "=", status);
  if (storage !== undefined) query = query.where("storage", "=", plainText(storage));
  if (since !== undefined) query = query.where("checked_at", ">=", isoTime(since));
  return limit === undefined ? query : query.limit(limit);
}

export function pinQuery(db: Kysely<Tables>, heldAt: string | null): Query<"pins"> {
  const all = db.selectFrom("pins").selectAll().orderBy("created_at", "desc").orderBy("id", "desc");
  if (heldAt === null) return all;
  return all
    .where("removed_at", "is", null)
    .where((is) => is.or([is("until", "is", null), is("until", ">", isoTime(heldAt))]));
}

export function deliveryQuery(db: Kysely<Tables>, filter: DeliveryFilter): Query<"deliveries"> {
  const { alertId, channel, status, limit } = filter;
  let query = db.selectFrom("deliveries").selectAll().orderBy("created_at", "desc").orderBy("id", "desc");
  if (alertId !== undefined) query = query.where("alert_id", "=", plainText(alertId));
  if (channel !== undefined) query = query.where("channel", "=", plainText(channel));
  if (status !== undefined) query = query.where("status", "in", oneOf(status));
  return limit === undefined ? query : query.limit(limit);
}

export function jobRequestQuery(db: Kysely<Tables>, filter: JobRequestFilter): Query<"job_requests"> {
  const { status, dueBy, limit } = filter;
  let query = db.selectFrom("job_requests").selectAll().orderBy("due_at").orderBy("id");
  if (status !== undefined) query = query.where("status", "in", oneOf(status));
  if (dueBy !== undefined) query = query.where("due_at", "<=", isoTime(dueBy));
  return limit === undefined ? query : query.limit(limit);
}

/** `in ()` is no SQL; a list of nothing matches nothing, and no status is empty. */
const oneOf = <Word extends string>(words: Word[]): Word[] => (words.length > 0 ? words : ["" as Word]);
