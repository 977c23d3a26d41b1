import { isHeld } from "../../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import {
  type DatedNote,
  goneBy,
  type NotedFacts,
  nextGoneNote,
  readGoneNote,
} from "../../domain/goneNotes.js";
import type { Gone } from "../../domain/retention.js";
import { SCHEDULED } from "../../domain/schedule.js";
import type { Session, TenantGraph } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { listTenants } from "./choose.js";
import { withTenantGraph } from "./graph.js";
import { lastOfEachTenant } from "./lastOfEach.js";

/** The cluster's number where this role may know it. */
export const placeOf = (systemId: string | null, database: string): string =>
  `${systemId ?? "?"} ${database}`;

/** The newest note tells since when; these tell how often it was looked. */
const MOST_RUNS = 500;

async function notesOf(site: Site): Promise<DatedNote[]> {
  const runs = await site.catalog.runs({
    job: SCHEDULED.tenant.job,
    scope: "whole",
    status: ["succeeded", "partial"],
    limit: MOST_RUNS,
  });
  return runs.flatMap(({ metadata, startedAt }) => {
    const note = readGoneNote(metadata);
    return note === null ? [] : [{ at: new Date(startedAt), note }];
  });
}

export interface MissingQuestion {
  session: Session;
  graph: TenantGraph;
  /** The database that is asked. */
  of: string;
  /** When the run began. */
  at: Date;
}

/**
 * Notes whom a backup of all tenants does not find any more, suspended ones excepted: they stand in the table. Null where the
 * catalog cannot tell who ever had a backup.
 */
export async function noteOfMissing(
  site: Site,
  { session, graph, of, at }: MissingQuestion,
): Promise<NotedFacts | null> {
  try {
    const there = new Set((await listTenants(site, session, graph, "all")).map(({ id }) => id));
    const gone: string[] = [];
    for await (const page of lastOfEachTenant(site.catalog))
      for (const backup of page)
        if (isHeld(backup) && !there.has(backup.tenantId ?? "")) gone.push(backup.tenantId ?? "");
    // the newest went, and an older one is pinned
    const notes = await notesOf(site);
    for (const id of notes[0]?.note.gone.keys() ?? []) {
      if (there.has(id) || gone.includes(id)) continue;
      if ((await site.catalog.backups({ kind: "tenant", tenantId: id })).some(isHeld)) gone.push(id);
    }
    return nextGoneNote(gone.sort(), { notes, of, at });
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
  if (newest === undefined || newest.note.gone.size === 0) return gone;
  const there = await look();
  if (there === null || there.ids.size === 0) return gone;
  for (const id of newest.note.gone.keys()) {
    const row = there.ids.has(id) ? null : goneBy(notes, id, there.of);
    if (row !== null) gone.set(id, row);
  }
  return gone;
}

async function notesOrNone(site: Site): Promise<DatedNote[]> {
  try {
    return await notesOf(site);
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
    return await withTenantGraph(site, async ({ postgres, session, graph }) => {
      const tenants = await listTenants(site, session, graph, "all");
      const { systemId } = await postgres.tenants.server(session);
      return { ids: new Set(tenants.map(({ id }) => id)), of: placeOf(systemId, postgres.database) };
    });
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    site.report.warn(`the tenants cannot be read: ${reasonOf(error)}`);
    return null;
  }
}
