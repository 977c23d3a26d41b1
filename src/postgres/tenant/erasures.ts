import { quoteName, quoteText, type Session } from "../connection.js";
import type { ForeignKey } from "../mergeCatalog.js";
import { count, refersTo, rowsOf, write } from "../mergeSql.js";
import { type Pair, staging } from "./pair.js";

/** The ledger of what was erased for good: a table of the application's, with a table's name and a row's key as text. */
export interface Erasures {
  table: string;
  tableColumn: string;
  keyColumn: string;
}

const erased = ({ nth }: Pair): string => `pg_temp.jbackup_erased_${nth}`;

const qualifiedText = (name: string): string => name.split(".").map(quoteName).join(".");

/** What was erased stays erased, and with it whatever belongs to it: a restore must not bring it back. */
export async function applyErasures(
  session: Session,
  pairs: Pair[],
  keys: ForeignKey[],
  ledger: Erasures,
  transformed: Set<string>,
): Promise<string[]> {
  const ledgerRows = `${qualifiedText(ledger.table)} e`;
  for (const pair of pairs) {
    const names = [pair.facts.table, pair.facts.name, `${pair.facts.schema}.${pair.facts.name}`];
    const key = pair.facts.keyColumns.map((name) => `s.${quoteName(name)}::text`).join(" || ',' || ");
    const listed =
      key === ""
        ? "false"
        : `exists (select from ${ledgerRows} where e.${quoteName(ledger.tableColumn)}::text in (${[...new Set(names)].map(quoteText).join(", ")}) and e.${quoteName(ledger.keyColumn)}::text = ${key})`;
    await session.run(
      `create temporary table ${erased(pair)} on commit drop as select s.* from ${staging(pair)} s where ${listed};
       delete from ${staging(pair)} s where ${listed}`,
    );
  }
  let isSettled = false;
  while (!isSettled) {
    isSettled = true;
    for (const key of keys) {
      const child = pairs.find(({ live }) => live.table.oid === key.child);
      const parent = pairs.find(({ live }) => live.table.oid === key.parent);
      if (child === undefined || parent === undefined) continue;
      if ((await follow(session, key, child, parent)) === 0) continue;
      transformed.add(child.facts.table);
      isSettled = false;
    }
  }
  const told: string[] = [];
  for (const pair of pairs) {
    const many = await count(session, erased(pair));
    if (many === 0) continue;
    transformed.add(pair.facts.table);
    told.push(`${rowsOf(many, pair.facts.table)} stay erased`);
  }
  return told;
}

/** A row that needs what was erased goes with it; one that may do without forgets it. */
async function follow(session: Session, key: ForeignKey, child: Pair, parent: Pair): Promise<number> {
  const isGone = `exists (select from ${erased(parent)} q where ${refersTo(key, "s", "q")})`;
  const { owner } = child.live;
  const whose = owner?.kind === "column" ? owner.column : null; // a row without it would be nobody's
  const nullable = key.pairs.filter(({ isNullable, child: name }) => isNullable && name !== whose);
  if (nullable.length === 0)
    return write(
      session,
      `with gone as (delete from ${staging(child)} s where ${isGone} returning s.*) insert into ${erased(child)} select * from gone`,
    );
  return write(
    session,
    `update ${staging(child)} s set ${nullable.map(({ child: name }) => `${quoteName(name)} = null`).join(", ")} where ${isGone}`,
  );
}
