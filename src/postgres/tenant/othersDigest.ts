import { isOwned } from "../../domain/tenantGraph.js";
import { quoteText, type Session } from "../connection.js";
import { type Graph, ownerPath } from "./ownership.js";

/** Every row of everybody else as one number a table: the order of rows does not matter, a changed one does. */
export async function othersDigest(
  session: Session,
  graph: Graph,
  tenantId: string,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const table of graph.tables) {
    const isTenants = isOwned(table);
    const { from, owner } = isTenants
      ? ownerPath(graph, table, { join: "left join" })
      : { from: `${table.table.from} t`, owner: "null" };
    const [row] = await session.rows<{ digest: string }>(
      `select count(*)::text || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text as digest
         from ${from} where ${owner} is distinct from ${quoteText(tenantId)}`,
    );
    found.set(table.table.shown, row?.digest ?? "");
  }
  return found;
}
