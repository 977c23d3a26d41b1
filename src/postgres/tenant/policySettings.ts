import { type AskedSetting, settingsIn } from "../../domain/tenantProposal.js";
import type { Session } from "../connection.js";

/** Which settings of the application the policies of each table read. */
export async function policySettings(session: Session): Promise<AskedSetting[]> {
  const rows = await session.rows<{ oid: string; text: string }>(
    `select polrelid::text as oid,
            coalesce(pg_get_expr(polqual, polrelid), '') || ' ' || coalesce(pg_get_expr(polwithcheck, polrelid), '') as text
       from pg_policy order by 1`,
  );
  return rows.flatMap(({ oid, text }) => settingsIn(text).map((setting) => ({ oid, setting })));
}

const quoted = (name: string): string =>
  /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;

/** The condition that a tenant in service fulfils, by the columns and values of the table of tenants. */
export async function activeCondition(
  session: Session,
  { from, columns }: { from: string; columns: { name: string; type: string }[] },
): Promise<string | null> {
  const named = (...names: string[]) => columns.find(({ name }) => names.includes(name));
  const status = named("status", "state");
  if (status !== undefined) {
    const column = quoted(status.name);
    const values = await session.rows<{ value: string | null }>(
      `select distinct ${column}::text as value from ${from} limit 50`,
    );
    const active = values.find(({ value }) => /^active$/i.test(value ?? ""))?.value;
    if (active) return `${column} = '${active}'`;
  }
  const flag = named("is_active", "active", "enabled");
  if (flag?.type === "boolean") return quoted(flag.name);
  const end = named("deleted_at", "archived_at", "closed_at");
  return end === undefined ? null : `${quoted(end.name)} is null`;
}
