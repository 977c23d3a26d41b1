import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { nearest } from "../../domain/similar.js";
import type { Session, TenantGraph } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { tenantSettings, withTenantGraph } from "./graph.js";

export interface Tenant {
  id: string;
  name: string | null;
  isActive: boolean;
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Tenants in the order of their ids as text. `activeWhere` is SQL of the operator's own. */
export async function listTenants(
  site: Site,
  session: Session,
  graph: TenantGraph,
  ids: string[] | "all",
): Promise<Tenant[]> {
  const { idColumn, nameColumn, activeWhere } = tenantSettings(site);
  const name = nameColumn === undefined ? "null::text" : `${quoted(nameColumn)}::text`;
  const active = activeWhere === undefined ? "true" : `coalesce((${activeWhere}), false)`;
  const wanted = ids === "all" ? `${quoted(idColumn)} is not null` : `${quoted(idColumn)}::text = any($1)`;
  const rows = await session.rows<{ id: string; name: string | null; active: string }>(
    `select ${quoted(idColumn)}::text as id, ${name} as name, (${active})::text as active
       from ${graph.root.from} where ${wanted} order by ${quoted(idColumn)}::text collate "C"`,
    ids === "all" ? [] : [ids],
  );
  return rows.map((row) => ({ id: row.id, name: row.name, isActive: row.active === "true" }));
}

/** Those named, whatever their state; or all that are active. An id that no tenant has is refused before anything is read. */
export async function chooseTenants(
  site: Site,
  session: Session,
  graph: TenantGraph,
  wanted: string[] | "all",
): Promise<Tenant[]> {
  if (wanted === "all") {
    const active = (await listTenants(site, session, graph, "all")).filter(({ isActive }) => isActive);
    if (active.length > 0) return active;
    throw new JBackupError("verification_failed", `${graph.root.shown} holds no active tenant`, {
      hint: "look at tenants.table and tenants.activeWhere in jbackup.yaml: an empty list is more likely a mistake than the truth",
    });
  }
  const ids = [...new Set(wanted)];
  const found = await listTenants(site, session, graph, ids);
  const unknown = ids.filter((id) => !found.some((tenant) => tenant.id === id));
  if (unknown.length === 0) return found;
  throw await noSuchTenant(site, session, graph, unknown);
}

/** For a run that is wanted later: a mistake in an id is told to whoever makes it. */
export async function requireTenants(site: Site, wanted: string[]): Promise<void> {
  return withTenantGraph(site, async ({ session, graph }) => {
    await chooseTenants(site, session, graph, wanted);
  });
}

/** Refuses ids that no tenant has before a run is begun. Whatever else is wrong, the run itself meets, records and tells. */
export async function requireKnown(site: Site, ids: string[]): Promise<void> {
  try {
    await requireTenants(site, ids);
  } catch (error) {
    if (!(error instanceof JBackupError) || isJBackupError(error, "bug", "not_found")) throw error;
  }
}

async function noSuchTenant(
  site: Site,
  session: Session,
  graph: TenantGraph,
  unknown: string[],
): Promise<JBackupError> {
  const all = await listTenants(site, session, graph, "all");
  const [first = ""] = unknown;
  const byName = all.find(({ name }) => name?.toLowerCase() === first.toLowerCase());
  const meant =
    byName?.id ??
    nearest(
      first,
      all.slice(0, 5_000).map(({ id }) => id),
    );
  const which = unknown.map((id) => `"${id}"`).join(", ");
  return new JBackupError("not_found", `no tenant has the id ${which}`, {
    hint:
      meant === undefined
        ? "jbackup tenants list shows the ids"
        : `did you mean ${meant}? jbackup tenants list shows the ids`,
    details: { unknown },
  });
}
