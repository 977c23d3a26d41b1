import { isOwned, type TableClass, undecided } from "../../domain/tenantGraph.js";
import type { Finding, Session } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { tenantSettings, withTenantGraph } from "./graph.js";

export interface CoveredTable {
  table: string;
  class: TableClass;
  /** How a row's tenant is found, for people. */
  owner: string | null;
  why: string;
  rows: number | null;
  findings: Finding[];
}

export interface Coverage {
  root: string;
  setting: string | null;
  tables: CoveredTable[];
  /** What stands in the way of backups and restores of tenants. */
  problems: string[];
  decided: boolean;
}

/** Every table with its class, and everything about it that may surprise. */
export async function tenantCoverage(site: Site): Promise<Coverage> {
  const settings = tenantSettings(site);
  return withTenantGraph(site, async ({ postgres, session, graph }) => {
    const findings = await postgres.tenants.audit(session, graph, settings.setting);
    const tables: CoveredTable[] = [];
    for (const table of graph.tables)
      tables.push({
        table: table.table.shown,
        class: table.class,
        owner: table.owner === null ? null : ownerText(table.owner),
        why: table.why,
        rows: isOwned(table) ? await rowsIn(session, table.table.from) : null,
        findings: findings.get(table.table.oid) ?? [],
      });
    const problems = [
      ...graph.unmatched.map(
        ({ name, meant }) =>
          `the configuration names ${name}, and there is no such table${meant === null ? "" : `; did you mean ${meant}?`}`,
      ),
      ...tables.flatMap(({ table, findings: own }) =>
        own.filter(({ severity }) => severity === "error").map(({ message }) => `${table}: ${message}`),
      ),
    ];
    return {
      root: graph.root.shown,
      setting: settings.setting ?? null,
      tables,
      problems,
      decided: undecided(graph).length === 0,
    };
  });
}

const ownerText = (
  owner: { kind: "column"; column: string } | { kind: "reference"; reference: { name: string } },
): string => (owner.kind === "column" ? owner.column : `through ${owner.reference.name}`);

async function rowsIn(session: Session, from: string): Promise<number> {
  const [row] = await session.rows<{ rows: string }>(`select count(*)::text as rows from ${from}`);
  return Number(row?.rows ?? 0);
}
