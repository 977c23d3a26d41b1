import { JBackupError } from "../../domain/errors.js";
import { isOwned } from "../../domain/tenantGraph.js";
import type { Postgres, Session, TenantSnapshot } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { tenantSettings } from "./graph.js";
import type { Census } from "./readAll.js";

export interface IsolationCheck {
  (tenantId: string, census: Census): Promise<void>;
  close(): Promise<void>;
}

/**
 * With `isolation: rls` the application's own policies must show each tenant exactly the rows that are backed up as its
 * own, under a role that they bind: a policy that hides or shows too much is found here.
 */
export async function openIsolationCheck(
  site: Site,
  postgres: Postgres,
  snapshot: TenantSnapshot,
): Promise<IsolationCheck> {
  const { isolation, role, setting } = tenantSettings(site);
  if (isolation !== "rls") return Object.assign(async () => undefined, { close: async () => undefined });
  if (role === undefined || setting === undefined)
    throw new JBackupError(
      "config_invalid",
      "tenants.isolation is rls, but the role or the setting is missing",
      {
        hint: "set tenants.role to a role that the policies bind, and tenants.setting to what they read, such as app.tenant_id",
      },
    );
  const direct = snapshot.graph.tables.filter(({ class: is }) => is === "direct");
  const bare = direct.filter(({ table }) => !table.hasRowSecurity);
  if (bare.length > 0)
    throw new JBackupError(
      "config_invalid",
      `tenants.isolation is rls, but no row-level security is on for ${bare.map(({ table }) => table.shown).join(", ")}`,
      { hint: "ALTER TABLE ... ENABLE ROW LEVEL SECURITY and a policy, or isolation: none" },
    );
  const bound = snapshot.graph.tables.filter((table) => isOwned(table) && table.table.hasRowSecurity);
  const session = await openBound(
    postgres,
    snapshot,
    role,
    bound.map(({ table }) => table.oid),
  );
  const counts = bound
    .map(({ table }, nth) => `(select count(*) from ${table.from})::text as c${nth}`)
    .join(", ");
  const check = async (tenantId: string, census: Census): Promise<void> => {
    await session.rows("select set_config($1, $2, true)", [setting, tenantId]);
    const [row] = await session.rows<Record<string, string>>(`select ${counts}`);
    for (const [nth, { table }] of bound.entries()) {
      const seen = Number(row?.[`c${nth}`]);
      const own = census.rowsOf(tenantId, table.oid);
      if (seen === own) continue;
      throw new JBackupError(
        "verification_failed",
        `the policies of ${table.shown} show tenant ${tenantId} ${seen} rows, and ${own} are its own: they ${seen < own ? "hide" : "show"} too much`,
        { hint: "jbackup tenants coverage shows the policies that do not fit" },
      );
    }
  };
  return Object.assign(check, { close: () => session.close() });
}

/** In the same snapshot, as somebody whom the policies bind. */
async function openBound(
  postgres: Postgres,
  snapshot: TenantSnapshot,
  role: string,
  oids: string[],
): Promise<Session> {
  const session = await postgres.connect();
  try {
    await session.run("begin transaction isolation level repeatable read, read only");
    await session.run(`set transaction snapshot '${snapshot.id}'`);
    await snapshot.lock(session);
    await session.rows("select set_config('role', $1, true)", [role]);
    const unbound = await session.rows<{ name: string }>(
      "select oid::regclass::text as name from pg_class where oid = any($1::oid[]) and not row_security_active(oid) order by 1",
      [oids],
    );
    if (unbound.length > 0)
      throw new JBackupError(
        "config_invalid",
        `tenants.role ${role} is not bound by the policies of ${unbound.map(({ name }) => name).join(", ")}`,
        { hint: "name a role without BYPASSRLS that does not own the tables, such as the application's" },
      );
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}
