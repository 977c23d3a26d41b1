import { isHeld, type Run } from "../../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { Gone } from "../../domain/retention.js";
import { SCHEDULED } from "../../domain/schedule.js";
import type { Session, TenantGraph } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { listTenants } from "./choose.js";
import { tenantGraph } from "./graph.js";
import { lastOfEachTenant } from "./lastOfEach.js";

/** What a backup of all tenants notes: who has backups, and no row among the tenants any more. */
export interface GoneNote {
  gone: string[];
  /** The database whose word this is: another one's tenants are others. */
  of: string;
}

/** The cluster's number where this role may know it. */
export const placeOf = (systemId: string | null, database: string): string =>
  `${systemId ?? "?"} ${database}`;

const MOST_RUNS = 500;

const noteOf = ({ metadata, status }: Run): GoneNote | null =>
  (status === "succeeded" || status === "partial") && Array.isArray(metadata.gone)
    ? { gone: metadata.gone.map(String), of: String(metadata.of) }
    : null;

async function notesOf(site: Site, limit: number): Promise<{ at: Date; note: GoneNote }[]> {
  const runs = await site.catalog.runs({ job: SCHEDULED.tenant.job, scope: "whole", limit });
  return runs.flatMap((run) => {
    const note = noteOf(run);
    return note === null ? [] : [{ at: new Date(run.startedAt), note }];
  });
}

/**
 * Those that a backup of all tenants does not find any more, suspended ones excepted: they stand in the table. Null where the
 * catalog cannot tell who ever had a backup.
 */
export async function missingTenants(
  site: Site,
  session: Session,
  graph: TenantGraph,
): Promise<string[] | null> {
  try {
    const there = new Set((await listTenants(site, session, graph, "all")).map(({ id }) => id));
    const gone: string[] = [];
    for await (const page of lastOfEachTenant(site.catalog))
      for (const backup of page)
        if (isHeld(backup) && !there.has(backup.tenantId ?? "")) gone.push(backup.tenantId ?? "");
    // the newest went, and an older one is pinned
    const [before] = await notesOf(site, 20);
    for (const id of before?.note.gone ?? []) {
      if (there.has(id) || gone.includes(id)) continue;
      if ((await site.catalog.backups({ kind: "tenant", tenantId: id })).some(isHeld)) gone.push(id);
    }
    return gone.sort();
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    return null;
  }
}

/**
 * Tenants who are gone: every backup of all tenants since then says so, and the table, asked now, too. Where it cannot be read,
 * holds nobody, or is another cluster's, nobody is.
 */
export async function goneTenants(
  site: Site,
  look: () => Promise<TenantsThere | null> = () => tenantsThere(site),
): Promise<Map<string, Gone>> {
  const gone = new Map<string, Gone>();
  if (site.config.tenants === undefined) return gone;
  const notes = await notesOrNone(site);
  const [newest] = notes;
  if (newest === undefined || newest.note.gone.length === 0) return gone;
  const there = await look();
  if (there === null || there.ids.size === 0) return gone;
  for (const id of newest.note.gone) {
    const lastThere = notes.findIndex(({ note }) => note.of !== there.of || !note.gone.includes(id));
    const seen = notes.slice(0, lastThere === -1 ? undefined : lastThere).map(({ at }) => at);
    const since = seen.at(-1);
    if (since !== undefined && !there.ids.has(id)) gone.set(id, { since, seen });
  }
  return gone;
}

async function notesOrNone(site: Site): Promise<{ at: Date; note: GoneNote }[]> {
  try {
    return await notesOf(site, MOST_RUNS);
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return [];
    throw error;
  }
}

export interface TenantsThere {
  ids: Set<string>;
  /** The database that was asked. */
  of: string;
}

/** Everybody in the table now, active or not; null where that cannot be read. */
export async function tenantsThere(site: Site): Promise<TenantsThere | null> {
  try {
    const postgres = await site.postgres();
    const session = await postgres.connect();
    try {
      await session.run("set row_security = off");
      const graph = await tenantGraph(site, postgres, session);
      const tenants = await listTenants(site, session, graph, "all");
      const { systemId } = await postgres.tenants.server(session);
      return { ids: new Set(tenants.map(({ id }) => id)), of: placeOf(systemId, postgres.database) };
    } finally {
      await session.close();
    }
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    site.report.warn(`the tenants cannot be read: ${reasonOf(error)}`);
    return null;
  }
}
