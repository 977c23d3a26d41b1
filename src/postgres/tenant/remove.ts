import { isOwned } from "../../domain/tenantGraph.js";
import { quoteText, type Session } from "../connection.js";
import { write } from "../mergeSql.js";
import { type Graph, ownerPath } from "./ownership.js";

/**
 * Takes a tenant out of a database of our own, past triggers and foreign keys, so that it can be seen to come back. Answers how many
 * rows went.
 */
export async function removeTenant(session: Session, graph: Graph, tenantId: string): Promise<number> {
  const owned = graph.tables.filter(isOwned);
  const gone = (nth: number): string => `pg_temp.jbackup_removed_${nth}`;
  await session.run("begin; set local row_security = off; set local session_replication_role = replica");
  try {
    // all are found before any goes: a row is found by way of its parents
    for (const [nth, table] of owned.entries()) {
      const { from, owner } = ownerPath(graph, table);
      await session.run(
        `create temporary table ${gone(nth)} on commit drop as
           select t.ctid as jbackup_ctid, t.tableoid as jbackup_tableoid from ${from} where ${owner} = ${quoteText(tenantId)}`,
      );
    }
    let rows = 0;
    for (const [nth, { table }] of owned.entries())
      rows += await write(
        session,
        `delete from ${table.from} t using ${gone(nth)} g where t.ctid = g.jbackup_ctid and t.tableoid = g.jbackup_tableoid`,
      );
    await session.run("commit");
    return rows;
  } catch (error) {
    await session.run("rollback").catch(() => undefined); // a lost connection has rolled back already
    throw error;
  }
}
