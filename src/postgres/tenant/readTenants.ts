import { to as copyTo } from "pg-copy-streams";
import { isOwned } from "../../domain/tenantGraph.js";
import { freeMemory } from "../../sys/memory.js";
import { eachRow, quoteName, type Session, translate } from "../connection.js";
import { refersTo } from "../mergeSql.js";
import { copyMany } from "./copyMany.js";
import {
  type Graph,
  idList,
  type OwnedTable,
  ownerPath,
  rowOrder,
  rowsOfTenant,
  rowsOfTenants,
  storedColumns,
} from "./ownership.js";

/** What is read of every tenant, table by table: its own rows, and the shared rows that they refer to. */
export interface ReadTable {
  table: OwnedTable["table"];
  class: "root" | "direct" | "child" | "shared";
  /** The rows of several tenants, each behind its tenant's id, tenant by tenant. */
  ofMany(ids: string[]): string;
  ofOne(id: string): string;
}

/** Parents before children, as far as there is an order; shared tables first. */
export function tablesToRead(graph: Graph): ReadTable[] {
  const owned = graph.tables.filter(isOwned);
  const shared = graph.tables.filter(({ class: is }) => is === "shared");
  return [
    ...shared.flatMap((table) => sharedReader(graph, table)),
    ...owned.map(
      (table): ReadTable => ({
        table: table.table,
        class: table.class as ReadTable["class"],
        ofMany: (ids) => rowsOfTenants(graph, table, ids),
        ofOne: (id) => rowsOfTenant(graph, table, id),
      }),
    ),
  ];
}

/** How many shared tables may stand between a tenant's row and a shared row that it needs. */
const FURTHEST = 3;

/** Shared rows that a tenant's rows refer to, by any foreign key, through other shared tables as well. */
function sharedReader(graph: Graph, shared: OwnedTable): ReadTable[] {
  const found = waysTo(graph, shared, FURTHEST);
  if (found.length === 0 || shared.table.keyColumns.length === 0) return [];
  const key = shared.table.keyColumns.map((name) => `k.${quoteName(name)}`);
  const columns = storedColumns(shared.table).map(({ name }) => `s.${quoteName(name)}`);
  const wanted = (ids: string[]): string =>
    found
      .map(
        ({ from, owner, end }) =>
          `select distinct ${owner}::text as jbackup_owner, ${shared.table.keyColumns.map((name) => `${end}.${quoteName(name)}`).join(", ")} from ${from} where ${owner} in (${idList(ids)})`,
      )
      .join(" union ");
  const same = shared.table.keyColumns.map((name, at) => `s.${quoteName(name)} = ${key[at]}`).join(" and ");
  const body = (ids: string[]): string => `from (${wanted(ids)}) k join ${shared.table.from} s on ${same}`;
  return [
    {
      table: shared.table,
      class: "shared",
      ofMany: (ids) =>
        `select k.jbackup_owner, ${columns.join(", ")} ${body(ids)} order by k.jbackup_owner collate "C", ${rowOrder(shared.table, "s")}`,
      ofOne: (id) => `select ${columns.join(", ")} ${body([id])} order by ${rowOrder(shared.table, "s")}`,
    },
  ];
}

interface Way {
  from: string;
  owner: string;
  /** The alias of the table that the way ends at. */
  end: string;
}

/** Every chain of foreign keys from a tenant's rows to the table. */
function waysTo(graph: Graph, shared: OwnedTable, most: number): Way[] {
  return graph.references
    .filter(({ parent, child }) => parent === shared.table.oid && child !== parent)
    .flatMap((reference): Way[] => {
      const user = graph.tables.find(({ table }) => table.oid === reference.child);
      if (user === undefined) return [];
      const alias = `s${most}`;
      const before: Way[] = isOwned(user)
        ? [{ ...ownerPath(graph, user), end: "t" }]
        : user.class === "shared" && most > 1
          ? waysTo(graph, user, most - 1)
          : [];
      return before.map(({ from, owner, end }) => ({
        from: `${from} join ${shared.table.from} ${alias} on ${refersTo(reference, end, alias)}`,
        owner,
        end: alias,
      }));
    });
}

/** One table's rows of some tenants, as COPY text. */
export type RowsByTenant = Map<string, Buffer>;

const TAB = 0x09;
const FIRST_BYTES = 1 << 16;

export interface ReadRows {
  /** By table. */
  rows: RowsByTenant[];
  /** Gives their memory back at once. */
  free(): void;
}

/** Collects rows of several tables at once. */
export async function readMany(session: Session, tables: ReadTable[], ids: string[]): Promise<ReadRows> {
  const collected = tables.map(() => new Collected());
  await copyMany(
    session,
    tables.map((table) => table.ofMany(ids)),
    (at, row) => (collected[at] as Collected).add(row),
  );
  return {
    rows: collected.map((one) => one.byTenant()),
    free: () => {
      for (const one of collected) one.free();
    },
  };
}

/** The rows of a table come tenant by tenant: one growing piece of memory, cut where the tenant changes. */
class Collected {
  #bytes = Buffer.alloc(0);
  #length = 0;
  #owner: Buffer = Buffer.alloc(0);
  #parts: { owner: string; start: number }[] = [];

  add(row: Buffer): void {
    const tab = row.indexOf(TAB);
    const ownerEnd = tab === -1 ? row.length - 1 : tab;
    const owner = row.subarray(0, ownerEnd);
    if (this.#parts.length === 0 || !owner.equals(this.#owner)) {
      this.#owner = Buffer.from(owner);
      this.#parts.push({ owner: plainText(owner.toString("utf8")), start: this.#length });
    }
    this.#append(row.subarray(tab === -1 ? ownerEnd : tab + 1));
  }

  byTenant(): RowsByTenant {
    const bytes = this.#bytes;
    return new Map(
      this.#parts.map(({ owner, start }, at) => [
        owner,
        bytes.subarray(start, this.#parts[at + 1]?.start ?? this.#length),
      ]),
    );
  }

  free(): void {
    freeMemory(this.#bytes);
  }

  #append(bytes: Buffer): void {
    if (this.#length + bytes.length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(
        Math.max(FIRST_BYTES, 2 * this.#bytes.length, this.#length + bytes.length),
      );
      this.#bytes.copy(larger, 0, 0, this.#length);
      freeMemory(this.#bytes);
      this.#bytes = larger;
    }
    bytes.copy(this.#bytes, this.#length);
    this.#length += bytes.length;
  }
}

const ESCAPES: Record<string, string> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

/** A value as COPY wrote it, back to what it is. */
export const plainText = (copied: string): string =>
  copied.includes("\\") ? copied.replace(/\\(.)/g, (_, letter: string) => ESCAPES[letter] ?? letter) : copied;

/** One tenant's rows of one table, however many they are: handed over in pieces, memory stays small. */
export async function* readOne(
  session: Session,
  table: ReadTable,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const stream = session.client.query(copyTo(`copy (${table.ofOne(id)}) to stdout`));
  const stop = (): void => void stream.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const chunk of stream) yield chunk as Buffer;
    signal.throwIfAborted();
  } catch (error) {
    signal.throwIfAborted();
    throw translate(error, session.address);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Tells how many rows each tenant has in a table. Of all tenants: also, under null, how many no tenant owns. */
export async function countByTenant(
  session: Session,
  graph: Graph,
  table: OwnedTable,
  ids: string[] | "all",
  onCount: (owner: string | null, rows: number) => void,
): Promise<void> {
  const { from, owner } = ownerPath(graph, table, { join: ids === "all" ? "left join" : "join" });
  const wanted = ids === "all" ? "" : ` where ${owner} in (${idList(ids)})`;
  await eachRow<{ owner: string | null; rows: string }>(
    session,
    `select ${owner}::text as owner, count(*)::text as rows from ${from}${wanted} group by 1`,
    (row) => onCount(row.owner, Number(row.rows)),
  );
}

export interface Disagreement {
  table: string;
  /** The foreign keys that lead to different tenants. */
  chosen: string;
  other: string;
  owners: [string, string];
  rows: number;
}

/** Rows that two foreign keys give to different tenants: whose they are, nobody can say. */
export async function disagreements(
  session: Session,
  graph: Graph,
  table: OwnedTable,
  ids: string[] | "all",
): Promise<Disagreement[]> {
  if (table.owner?.kind !== "reference") return [];
  const chosen = ownerPath(graph, table);
  const found: Disagreement[] = [];
  for (const reference of table.alternatives) {
    const other = ownerPath(
      graph,
      { ...table, owner: { kind: "reference", reference, parent: reference.parent } },
      { alias: "q" },
    );
    const wanted =
      ids === "all" ? "" : ` and (${chosen.owner} in (${idList(ids)}) or ${other.owner} in (${idList(ids)}))`;
    const rows = await session.rows<{ a: string; b: string; rows: string }>(
      `select ${chosen.owner}::text as a, ${other.owner}::text as b, count(*)::text as rows
         from ${chosen.from}${other.joins} where ${chosen.owner} <> ${other.owner}${wanted} group by 1, 2 order by 1, 2`,
    );
    for (const { a, b, rows: many } of rows)
      found.push({
        table: table.table.shown,
        chosen: table.owner.reference.name,
        other: reference.name,
        owners: [a, b],
        rows: Number(many),
      });
  }
  return found;
}

/** Line breaks inside values are escaped, so every line is a row. */
export function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, at + 1)) lines++;
  return lines;
}
