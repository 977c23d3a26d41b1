import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../../postgres/postgres.js";

/** All of something in one number: the SHA-256 over its rows or bytes, in an order that depends on them alone. */
export interface Fingerprint {
  what: string;
  rows: number;
  sha256: string;
}

export interface ProofLine {
  what: string;
  rows: number;
  expected: string;
  seen: string;
}

/** What was to come back, and what did. Never made unless every line is equal. */
export interface Proof {
  of: string;
  lines: ProofLine[];
}

/** Every row of a query, as PostgreSQL itself writes it; read through none of the modules that back up or restore. */
async function fingerprint(session: Session, what: string, from: string): Promise<Fingerprint> {
  const [row] = await session.rows<{ rows: string; sha256: string }>(
    `select count(*)::text as rows,
            encode(sha256(convert_to(coalesce(string_agg(t.line, E'\\n' order by t.line collate "C"), ''), 'UTF8')), 'hex') as sha256
       from (select x::text as line from ${from}) t`,
  );
  return { what, rows: Number(row?.rows), sha256: String(row?.sha256) };
}

/** Every table and materialised view of the shop. */
export async function shopPrints(session: Session): Promise<Fingerprint[]> {
  const tables = await session.rows<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'app' and c.relkind in ('r', 'm') order by 1`,
  );
  const prints: Fingerprint[] = [];
  for (const { name } of tables) prints.push(await fingerprint(session, name, `${name} x`));
  return prints;
}

/** Whose rows are whose in the shop, written down by hand: the demo does not believe what it is to prove. */
const OWNERS: [table: string, from: string, owner: string][] = [
  ["app.tenants", "app.tenants x", "x.id"],
  ["app.items", "app.items x", "x.tenant_id"],
  ["app.customers", "app.customers x", "x.tenant_id"],
  ["app.sales", "app.sales x", "x.tenant_id"],
  [
    "app.sale_items",
    "app.sale_items x join app.sales s on s.id = x.sale_id and s.sold_on = x.sold_on",
    "s.tenant_id",
  ],
  ["app.repairs", "app.repairs x", "x.tenant_id"],
];

export async function tenantPrints(session: Session, tenant: string): Promise<Fingerprint[]> {
  const prints: Fingerprint[] = [];
  for (const [table, from, owner] of OWNERS)
    prints.push(await fingerprint(session, table, `${from} where ${owner} = '${tenant}'`));
  return prints;
}

export async function othersPrints(session: Session, tenant: string): Promise<Fingerprint[]> {
  const prints: Fingerprint[] = [];
  for (const [table, from, owner] of OWNERS)
    prints.push(
      await fingerprint(
        session,
        `${table}, all others`,
        `${from} where ${owner} is distinct from '${tenant}'`,
      ),
    );
  return prints;
}

/** Every object of a storage on disk; the marker of the site bears the moment at which it was made. */
export async function folderPrints(folder: string): Promise<Map<string, string>> {
  const prints = new Map<string, string>();
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isFile() || entry.name === "jbackup-site.json") continue;
    const path = join(entry.parentPath, entry.name);
    prints.set(path.slice(folder.length + 1), sha256(await readFile(path)));
  }
  return prints;
}

export const sha256 = (content: string | Uint8Array): string =>
  createHash("sha256").update(content).digest("hex");

/** One number for many objects. */
export const folderPrint = (what: string, objects: Map<string, string>): Fingerprint => ({
  what,
  rows: objects.size,
  sha256: sha256([...objects].sort().join("\n")),
});

/** Fails unless everything that was to come back is there, and nothing else. */
export function prove(of: string, expected: Fingerprint[], seen: Fingerprint[]): Proof {
  const lines = expected.map((one): ProofLine => {
    const found = seen.find(({ what }) => what === one.what);
    return {
      what: one.what,
      rows: one.rows,
      expected: one.sha256,
      seen: found === undefined ? "missing" : found.rows === one.rows ? found.sha256 : `${found.rows} rows`,
    };
  });
  const wrong = lines.filter((line) => line.expected !== line.seen).map(({ what }) => what);
  const surplus = seen
    .filter(({ what }) => expected.every((one) => one.what !== what))
    .map(({ what }) => what);
  if (wrong.length + surplus.length === 0 && lines.length > 0) return { of, lines };
  throw new JBackupError(
    "verification_failed",
    `${of}: what came back differs in ${[...wrong, ...surplus].join(", ")}`,
    {
      hint: "this is a bug of jbackup: please report it with the output of jbackup demo --verbose",
      details: { lines },
    },
  );
}
