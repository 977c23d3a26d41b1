import type { Config } from "../../config/config.js";
import { JBackupError } from "../../domain/errors.js";
import { classifyTables, isOwned, type TenantRules, undecided } from "../../domain/tenantGraph.js";
import type { OwnedTable, Postgres, Session, TenantGraph } from "../../postgres/postgres.js";
import type { Site } from "../site.js";

export type TenantSettings = NonNullable<Config["tenants"]>;

/** What the configuration says of tenants; without it there are none. */
export function tenantSettings(site: Site): TenantSettings {
  if (site.config.tenants !== undefined) return site.config.tenants;
  throw new JBackupError("config_invalid", "the configuration names no tenants", {
    hint: "add tenants: {table: SCHEMA.TABLE} to jbackup.yaml; jbackup tenants coverage then shows what belongs to them",
  });
}

const rulesOf = ({
  table,
  idColumn,
  column,
  exclude,
  shared,
  transient,
  owners,
}: TenantSettings): TenantRules => ({
  table,
  idColumn,
  column,
  exclude,
  shared,
  transient,
  owners,
});

/** Every table of a database with its class among tenants. */
export async function tenantGraph(site: Site, postgres: Postgres, session: Session): Promise<TenantGraph> {
  const settings = tenantSettings(site);
  const { tables, references } = await postgres.tenants.readSchema(session);
  const graph = classifyTables(tables, references, rulesOf(settings));
  if (graph === null)
    throw new JBackupError(
      "config_invalid",
      `tenants.table names ${settings.table}, and database "${session.address.database}" has no such table`,
      { hint: "name it with its schema in jbackup.yaml, such as app.tenants" },
    );
  const hasColumn = (name: string): boolean => graph.root.columns.some((column) => column.name === name);
  for (const [setting, column] of [
    ["idColumn", settings.idColumn],
    ["nameColumn", settings.nameColumn],
  ] as const)
    if (column !== undefined && !hasColumn(column))
      throw new JBackupError(
        "config_invalid",
        `tenants.${setting} names ${column}, and ${graph.root.shown} has no such column`,
        { hint: `its columns are ${graph.root.columns.map(({ name }) => name).join(", ")}` },
      );
  return graph;
}

/** Nobody may guess whose rows a table holds: what is not decided is refused. */
export function requireDecided(graph: TenantGraph): void {
  const open = undecided(graph);
  if (open.length === 0) return;
  const named = open.map(({ table, class: is, why }) => `${table.shown} is ${is} (${why})`);
  throw new JBackupError(
    "config_invalid",
    `whose rows ${open.length === 1 ? "a table holds" : "some tables hold"} is not decided: ${named.join("; ")}`,
    {
      hint: "decide in jbackup.yaml with tenants.owners, shared, transient or exclude; jbackup tenants coverage shows every table",
      details: { tables: open.map(({ table, class: is }) => ({ table: table.shown, class: is })) },
    },
  );
}

export const ownedTables = (graph: TenantGraph): OwnedTable[] => graph.tables.filter(isOwned);

export interface TenantsSeen {
  postgres: Postgres;
  session: Session;
  graph: TenantGraph;
}

/** A session that sees every tenant's rows, or fails: filtered rows would pass for all of them. */
export async function withTenantGraph<Result>(
  site: Site,
  work: (seen: TenantsSeen) => Promise<Result>,
): Promise<Result> {
  const postgres = await site.postgres();
  const session = await postgres.connect();
  try {
    await session.run("set row_security = off");
    return await work({ postgres, session, graph: await tenantGraph(site, postgres, session) });
  } finally {
    await session.close();
  }
}
