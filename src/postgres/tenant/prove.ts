import { createHash } from "node:crypto";
import { to as copyTo } from "pg-copy-streams";
import { JBackupError } from "../../domain/errors.js";
import { isOwned } from "../../domain/tenantGraph.js";
import { quoteText, type Session, translate } from "../connection.js";
import type { ForeignKey } from "../mergeCatalog.js";
import { count, refersTo, rowsOf } from "../mergeSql.js";
import { writtenSoFar } from "../mergeTriggers.js";
import type { Written } from "../mergeWrite.js";
import { type Graph, ownerPath, rowsOfTenant } from "./ownership.js";
import { type Pair, staging } from "./pair.js";

export type Touched = Awaited<ReturnType<typeof writtenSoFar>>;

/** The server's own count of what this transaction wrote must be ours, in every table, triggers and cascades included. */
export async function requireOnlyOurs(
  session: Session,
  before: Touched,
  written: Written[],
  mayFire: boolean,
): Promise<string[]> {
  const problems: string[] = [];
  for (const table of (await writtenSoFar(session)).values()) {
    const then = before.get(table.oid);
    const ours = written.find(({ oid }) => oid === table.oid);
    const differing = (["inserted", "updated", "deleted"] as const).flatMap((what) => {
      const counted = table[what] - (then?.[what] ?? 0);
      const meant = ours?.[what] ?? 0;
      return counted === meant ? [] : [`${counted} ${what} where ${meant} were meant`];
    });
    if (differing.length > 0) problems.push(`${table.name}: ${differing.join(", ")}`);
  }
  if (problems.length === 0) return [];
  if (mayFire) return problems.map((problem) => `triggers wrote besides: ${problem}`);
  throw proofFailed("the server counted other rows than the plan has", problems);
}

/** Counting is what the proof stands on. */
export async function requireCounting(session: Session): Promise<void> {
  const [row] = await session.rows<{ on: string }>("select current_setting('track_counts') as on");
  if (row?.on === "on") return;
  throw new JBackupError("environment", "track_counts is off: nobody could prove what a restore touches", {
    hint: "set track_counts = on for the server, which is its default",
  });
}

/** No row that this transaction wrote may be anybody else's, whoever wrote it: triggers as well. */
export async function requireOwn(
  session: Session,
  graph: Graph,
  before: Touched,
  tenantId: string,
): Promise<void> {
  const touched = await writtenSoFar(session);
  for (const live of graph.tables.filter(isOwned)) {
    const [now, then] = [touched.get(live.table.oid), before.get(live.table.oid)];
    if (now === undefined || now.inserted + now.updated === (then?.inserted ?? 0) + (then?.updated ?? 0))
      continue;
    const { from, owner } = ownerPath(graph, live, { join: "left join" });
    const others = await count(
      session,
      `${from} where t.xmin::text = (txid_current() % 4294967296)::text and ${owner} is distinct from ${quoteText(tenantId)}`,
    );
    if (others > 0)
      throw proofFailed("rows were written that are not the tenant's", [rowsOf(others, live.table.shown)]);
  }
}

/** A clone stands by itself: a reference that was left behind would lead to the rows that it was made from. */
export async function requireOwnReferences(
  session: Session,
  graph: Graph,
  pairs: Pair[],
  keys: ForeignKey[],
  tenantId: string,
): Promise<void> {
  const problems: string[] = [];
  for (const key of keys) {
    const child = pairs.find(({ live }) => live.table.oid === key.child);
    const parent = graph.tables.find(({ table: { oid } }) => oid === key.parent);
    if (child === undefined || parent === undefined || !isOwned(parent)) continue;
    if (!key.pairs.every((one) => child.table.shared.some(({ name }) => name === one.child))) continue;
    const { from, owner } = ownerPath(graph, parent, { join: "left join" });
    const many = await count(
      session,
      `${staging(child)} s where exists (select from ${from} where ${refersTo(key, "s", "t")} and ${owner} is distinct from ${quoteText(tenantId)})`,
    );
    if (many > 0) problems.push(`${rowsOf(many, child.live.table.shown)} by ${key.name}`);
  }
  if (problems.length > 0) throw proofFailed("the clone would refer to rows of somebody else", problems);
}

export interface Digest {
  table: string;
  rows: number;
  sha256: string;
}

/** The tenant as it is now, read by the very statement that backups are read by. */
export async function digestsOf(
  session: Session,
  graph: Graph,
  pairs: Pair[],
  tenantId: string,
): Promise<Digest[]> {
  const digests: Digest[] = [];
  for (const { live, facts } of pairs) {
    const hash = createHash("sha256");
    let rows = 0;
    try {
      const stream = session.client.query(copyTo(`copy (${rowsOfTenant(graph, live, tenantId)}) to stdout`));
      for await (const chunk of stream) {
        hash.update(chunk as Buffer);
        rows += linesIn(chunk as Buffer);
      }
    } catch (error) {
      throw translate(error, session.address);
    }
    digests.push({ table: facts.table, rows, sha256: hash.digest("hex") });
  }
  return digests;
}

function linesIn(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, at + 1)) lines++;
  return lines;
}

/** A replaced tenant must be what was backed up, byte by byte, wherever the tables are still what they were. */
export function requireSameDigests(digests: Digest[], pairs: Pair[], changedTables: Set<string>): void {
  const differing = pairs
    .filter(({ isSame, facts }) => isSame && !changedTables.has(facts.table))
    .filter(({ facts }) => digests.find(({ table }) => table === facts.table)?.sha256 !== facts.sha256)
    .map(({ facts }) => {
      const now = digests.find(({ table }) => table === facts.table);
      return `${facts.table} has ${now?.rows} rows now and ${facts.rows} in the backup, or other values`;
    });
  if (differing.length > 0) throw proofFailed("the tenant would not be what was backed up", differing);
}

/** Foreign keys whose own tables are touched, for the record. */
export const checkedKeys = (keys: ForeignKey[]): string[] =>
  keys.map(({ childShown, name }) => `${childShown}.${name}`).sort();

export const proofFailed = (what: string, problems: string[]): JBackupError =>
  new JBackupError("verification_failed", `${what}: ${problems.join("; ")}`, {
    hint: "everything was rolled back; jbackup restore --dry-run shows what would be written now",
    details: { problems },
  });
