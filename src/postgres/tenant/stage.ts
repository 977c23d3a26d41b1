import { pipeline } from "node:stream/promises";
import { from as copyFrom } from "pg-copy-streams";
import { JBackupError } from "../../domain/errors.js";
import { quoteName, quoteText, type Session, translate } from "../connection.js";
import { shownName } from "../mergeCatalog.js";
import { count, refersSomewhere, refersTo, rowsOf, verb } from "../mergeSql.js";
import { type Graph, ownerPath } from "./ownership.js";
import { type Pair, staging, stagingColumns } from "./pair.js";

/** Rows of the backup into temporary tables; memory holds a chunk at a time. */
export async function stageRows(
  session: Session,
  pairs: Pair[],
  read: (entry: string) => AsyncIterable<Buffer>,
  signal: AbortSignal,
): Promise<void> {
  for (const pair of pairs) {
    const name = staging(pair);
    await session.run(`create temporary table ${name} (${stagingColumns(pair).join(", ")}) on commit drop`);
    if (pair.facts.rows === 0) continue;
    const columns = pair.facts.columns.map((column) => quoteName(column.name)).join(", ");
    const writing = session.client.query(
      copyFrom(`copy ${name}${columns === "" ? "" : ` (${columns})`} from stdin`),
    );
    try {
      await pipeline(read(pair.facts.entry), writing, { signal });
    } catch (error) {
      signal.throwIfAborted();
      throw error instanceof JBackupError ? error : translate(error, session.address);
    }
    if (writing.rowCount !== pair.facts.rows)
      throw new JBackupError(
        "verification_failed",
        `${writing.rowCount} rows of ${pair.facts.table} came out of the backup, and ${pair.facts.rows} were recorded`,
      );
  }
  await session.run(pairs.map((pair) => `analyze ${staging(pair)}`).join(";") || "select 1");
}

/** What a changed schema would lose: said before anything is written. */
export async function lostValues(session: Session, pairs: Pair[]): Promise<string[]> {
  const found: string[] = [];
  for (const pair of pairs.filter(({ facts }) => facts.rows > 0)) {
    for (const name of pair.strangers) {
      const live = pair.live.table.columns.find((column) => column.name === name);
      const shown = `${pair.facts.table}.${shownName(name)}`;
      const was = pair.facts.columns.find((column) => column.name === name)?.type;
      const many = await count(session, `${staging(pair)} s where s.${quoteName(name)} is not null`);
      if (live !== undefined && !live.isGenerated)
        found.push(`${shown} is ${was} in the backup and ${live.type} now`);
      else if (many > 0)
        found.push(
          `${shown} holds values in the backup, but ${live ? "is computed in the live table" : "the live table has no such column"}`,
        );
    }
    for (const column of pair.table.shared.filter(({ isNotNull }) => isNotNull)) {
      if (pair.facts.columns.find(({ name }) => name === column.name)?.isNotNull) continue;
      const many = await count(session, `${staging(pair)} s where s.${quoteName(column.name)} is null`);
      if (many > 0)
        found.push(
          `${pair.facts.table}.${shownName(column.name)} must not be null now, but is in ${rowsOf(many, "the backup")}`,
        );
    }
  }
  return found;
}

/** Every row of the backup must be this tenant's: a row that says otherwise was slipped in. */
export async function requireOwnRows(
  session: Session,
  graph: Graph,
  pairs: Pair[],
  tenantId: string,
): Promise<void> {
  for (const pair of pairs) {
    const { owner } = pair.live;
    const isStrange =
      owner?.kind === "column"
        ? `s.${quoteName(owner.column)} is distinct from ${quoteText(tenantId)}`
        : owner?.kind === "reference"
          ? strangeChild(graph, pair, pairs, tenantId)
          : "true";
    const many = await count(session, `${staging(pair)} s where ${isStrange}`);
    if (many > 0)
      throw new JBackupError(
        "verification_failed",
        `${rowsOf(many, pair.facts.table)} in the backup of tenant ${tenantId} ${verb(many, "belongs", "belong")} to somebody else`,
        { hint: "nothing was changed; find out who made this backup, and choose another one" },
      );
  }
}

/** A child is the tenant's when its parent is, in the backup or in the live table. */
function strangeChild(graph: Graph, pair: Pair, pairs: Pair[], tenantId: string): string {
  const { owner } = pair.live;
  if (owner?.kind !== "reference") return "true";
  const { reference } = owner;
  const staged = pairs.find(({ live }) => live.table.oid === owner.parent);
  const parent = graph.tables.find(({ table: { oid } }) => oid === owner.parent);
  const found: string[] = [];
  if (staged !== undefined)
    found.push(`exists (select from ${staging(staged)} q where ${refersTo(reference, "s", "q")})`);
  if (parent !== undefined) {
    const path = ownerPath(graph, parent);
    found.push(
      `exists (select from ${path.from} where ${refersTo(reference, "s", "t")} and ${path.owner} = ${quoteText(tenantId)})`,
    );
  }
  return `not (${refersSomewhere(reference, "s")} and (${found.join(" or ")}))`;
}
