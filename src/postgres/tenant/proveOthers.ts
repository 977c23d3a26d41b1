import { JBackupError } from "../../domain/errors.js";
import { isOwned } from "../../domain/tenantGraph.js";
import { quoteText, type Session } from "../connection.js";
import { type Graph, ownerPath } from "./ownership.js";
import { proofFailed } from "./prove.js";

/** Everybody else's rows, seen with this transaction's work and without it at one and the same moment. */
export interface OthersProof {
  tables: number;
  rows: number;
  /** Tables that are no tenant's, and that triggers wrote to because they were asked to fire. */
  changedByTriggers: string[];
}

export interface ProvingOthers {
  session: Session;
  /** Another session of the same database and role. */
  observe(): Promise<Session>;
  graph: Graph;
  tenantId: string;
  /** Shared tables that missing rows were added to: those are told apart by who wrote them. */
  addedTo: string[];
  mayFire: boolean;
}

/**
 * One snapshot, two witnesses. The transaction exports the snapshot of its own reading, in which its writes show; an observer
 * takes the same snapshot, in which they do not, for they are not committed. Whatever others have committed by then both see,
 * whatever they do later neither sees. So if both count and hash the same, this transaction changed nothing of anybody else's,
 * however busy the others are, and whatever hid its writes from the server's counters.
 */
export async function proveOthers(proving: ProvingOthers): Promise<OthersProof> {
  const { session, graph, mayFire } = proving;
  const observer = await proving.observe();
  try {
    // a cursor keeps one snapshot from its first row to its last, so both can read at the same time
    await session.run(
      `declare jbackup_others no scroll cursor for select -1 as nth, pg_export_snapshot() as digest union all ${digests(proving, "inside")}`,
    );
    const [first] = await session.rows<Digest>("fetch 1 from jbackup_others");
    if (first?.nth !== "-1")
      throw new JBackupError("bug", "PostgreSQL did not export the snapshot before it read on");
    await observer.run(
      `begin isolation level repeatable read read only; set transaction snapshot ${quoteText(first.digest)};
       set local lock_timeout = '20s'; set local row_security = off; set local search_path = ''`,
    );
    const [inside, outside] = await Promise.all([
      byTable(session.rows<Digest>("fetch all from jbackup_others")),
      byTable(observer.rows<Digest>(digests(proving, "outside"))),
    ]);
    await session.run("close jbackup_others");
    if (inside.size !== graph.tables.length || outside.size !== graph.tables.length)
      throw new JBackupError("bug", "PostgreSQL did not answer for every table");
    const differing = graph.tables.filter((_, nth) => inside.get(nth) !== outside.get(nth));
    const isForgiven = (table: (typeof differing)[number]): boolean => mayFire && !isOwned(table);
    const wrong = differing.filter((table) => !isForgiven(table)).map(({ table }) => table.shown);
    if (wrong.length > 0) throw proofFailed("rows that are not the tenant's would be changed", wrong);
    return {
      tables: graph.tables.length,
      rows: [...inside.values()].reduce((sum, digest) => sum + Number(digest.split(" ")[0]), 0),
      changedByTriggers: differing.map(({ table }) => table.shown),
    };
  } finally {
    await observer.close();
  }
}

type Digest = Record<"nth" | "digest", string>;

/** A parallel plan answers in any order. */
const byTable = async (rows: Promise<Digest[]>): Promise<Map<number, string>> =>
  new Map((await rows).map(({ nth, digest }) => [Number(nth), digest]));

/** Every row that is not the tenant's, as one number a table: the order of rows does not matter, a changed one does. */
function digests({ graph, tenantId, addedTo }: ProvingOthers, where: "inside" | "outside"): string {
  return graph.tables
    .map((table, nth) => {
      const { from, owner } = isOwned(table)
        ? ownerPath(graph, table, { join: "left join" })
        : { from: `${table.table.from} t`, owner: "null" };
      const added =
        where === "inside" && addedTo.includes(table.table.oid)
          ? " and t.xmin::text <> (txid_current() % 4294967296)::text"
          : "";
      return `select ${nth} as nth, count(*)::text || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text as digest
        from ${from} where ${owner} is distinct from ${quoteText(tenantId)}${added}`;
    })
    .join(" union all ");
}
