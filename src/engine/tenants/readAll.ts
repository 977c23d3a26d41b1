import { JBackupError } from "../../domain/errors.js";
import type { OwnedTable, Postgres, ReadTable, Session, TenantSnapshot } from "../../postgres/postgres.js";
import type { Tenant } from "./choose.js";
import { ownedTables } from "./graph.js";

/** A tenant whose rows are all at hand. */
export interface SmallTenant {
  tenant: Tenant;
  /** In the order of `tables`: COPY text. */
  rows: Buffer[];
}

/** How much there is to read, known before it is read. */
export interface Census {
  tables: ReadTable[];
  /** How many rows a tenant has in an owned table, by its oid. */
  rowsOf(id: string, oid: string): number;
  /** By tenant: whose rows also belong to somebody else, in a sentence. */
  disputed: Map<string, string>;
  /** Rows that no tenant owns, by table. */
  nobodys: { table: string; rows: number }[];
  bytesOf(id: string): number;
  /** Some large table can only be scanned as a whole. */
  isScanned: boolean;
}

const ROW_BYTES = 100;

/** Counts the rows of these tenants, or all rows: what is read later must come to the same numbers. */
export async function takeCensus(
  postgres: Postgres,
  snapshot: TenantSnapshot,
  tenants: Tenant[],
  ids: string[] | "all",
): Promise<Census> {
  const { graph, sessions } = snapshot;
  // numbers by place, for a map of each tenant's own would take ten times the memory
  const places = new Map(tenants.map(({ id }, place) => [id, place]));
  const counts = new Map(
    ownedTables(graph).map(({ table }) => [table.oid, new Float64Array(tenants.length)] as const),
  );
  const rowsOf = (id: string, oid: string): number => counts.get(oid)?.[places.get(id) ?? -1] ?? 0;
  const disputed = new Map<string, string>();
  const nobodys: Census["nobodys"] = [];
  const waiting = ownedTables(graph)[Symbol.iterator]();
  const worker = async (session: Session): Promise<void> => {
    for (const table of waiting) {
      const { shown, oid } = table.table;
      await postgres.tenants.countByTenant(session, graph, table, ids, (owner, many) => {
        const place = owner === null ? undefined : places.get(owner);
        if (owner === null) nobodys.push({ table: shown, rows: many });
        else if (place !== undefined) (counts.get(oid) as Float64Array)[place] = many;
      });
      for (const found of await postgres.tenants.disagreements(session, graph, table, ids))
        for (const owner of found.owners)
          disputed.set(
            owner,
            `${found.rows} rows of ${found.table} belong to tenant ${found.owners[0]} by ${found.chosen}, and to tenant ${found.owners[1]} by ${found.other}`,
          );
    }
  };
  await Promise.all(sessions.map(worker));
  const rowBytes = ownedTables(graph).map(({ table: { oid, bytes, estimatedRows } }) => ({
    oid,
    bytes: estimatedRows > 0 ? Math.max(16, bytes / estimatedRows) : ROW_BYTES,
  }));
  return {
    tables: postgres.tenants.tablesToRead(graph),
    rowsOf,
    disputed,
    nobodys,
    isScanned: ownedTables(graph).some(
      (table) => table.table.estimatedRows > LARGE_TABLE_ROWS && !isIndexed(table),
    ),
    bytesOf: (id) => rowBytes.reduce((sum, { oid, bytes }) => sum + rowsOf(id, oid) * bytes, 0),
  };
}

/** Whether a tenant's rows, or those of one parent, are found without reading them all. */
function isIndexed({ table, owner }: OwnedTable): boolean {
  if (owner === null) return false;
  const wanted = owner.kind === "column" ? [owner.column] : owner.reference.pairs.map(({ child }) => child);
  return table.indexed.some((columns) =>
    wanted.every((name) => columns.slice(0, wanted.length).includes(name)),
  );
}

/** How much is read at once. Where a large table has no index to find tenants by, every batch costs a scan of it. */
const BATCH = { bytes: 8 * 2 ** 20, tenants: 100 };
const SCANNED_BATCH = { bytes: 32 * 2 ** 20, tenants: 300 };
const LARGE_TABLE_ROWS = 50_000;
/** More than this is not held in memory. */
const LARGE_BYTES = 16 * 2 ** 20;

export interface Batches {
  small: Tenant[][];
  large: Tenant[];
}

/** Many small tenants are read at once; a large one by itself. */
export function planBatches(tenants: Tenant[], census: Census): Batches {
  const most = census.isScanned ? SCANNED_BATCH : BATCH;
  const small: Tenant[][] = [];
  const large: Tenant[] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const tenant of tenants) {
    const size = census.bytesOf(tenant.id);
    if (size > LARGE_BYTES) {
      large.push(tenant);
      continue;
    }
    if (bytes + size > most.bytes || (small.at(-1)?.length ?? 0) >= most.tenants) {
      small.push([]);
      bytes = 0;
    }
    small.at(-1)?.push(tenant);
    bytes += size;
  }
  return { small, large };
}

interface ReadBatch {
  tenants: SmallTenant[];
  free(): void;
}

/** Batch after batch, the next one on its way while one is stored; its rows are gone when the next one is asked for. Tables are shared out among the sessions. */
export async function* readBatches(
  postgres: Postgres,
  snapshot: TenantSnapshot,
  census: Census,
  batches: Tenant[][],
): AsyncGenerator<SmallTenant[]> {
  const shares = shareOut(census.tables, snapshot.sessions.length);
  const read = async (batch: Tenant[]): Promise<ReadBatch> => {
    const ids = batch.map(({ id }) => id);
    const parts = await Promise.all(
      shares.map((tables, nth) => postgres.tenants.readMany(snapshot.sessions[nth] as Session, tables, ids)),
    );
    const byTable = new Map(
      shares.flatMap((tables, nth) => tables.map((table, at) => [table, parts[nth]?.rows[at]] as const)),
    );
    return {
      tenants: batch.map((tenant) => ({
        tenant,
        rows: census.tables.map((table) => byTable.get(table)?.get(tenant.id) ?? Buffer.alloc(0)),
      })),
      free: () => {
        for (const part of parts) part.free();
      },
    };
  };
  let coming = batches[0] === undefined ? undefined : read(batches[0]);
  for (let nth = 0; coming !== undefined; nth++) {
    const batch: ReadBatch = await coming;
    const next = batches[nth + 1];
    coming = next === undefined ? undefined : read(next);
    coming?.catch(() => undefined); // told when its turn comes
    yield batch.tenants;
    batch.free();
  }
}

/** The largest first, each to the session that has the least to read. */
function shareOut(tables: ReadTable[], sessions: number): ReadTable[][] {
  const shares = Array.from({ length: Math.max(1, sessions) }, () => ({
    tables: [] as ReadTable[],
    bytes: 0,
  }));
  for (const table of tables.toSorted((a, b) => b.table.bytes - a.table.bytes)) {
    const share = shares.reduce((least, one) => (one.bytes < least.bytes ? one : least));
    share.tables.push(table);
    share.bytes += table.table.bytes + 8192;
  }
  return shares.map((share) => share.tables);
}

/** Read and counted in the same snapshot: a difference means that rows were missed, and nothing that missed rows is a backup. */
export function requireCounted({ id }: Tenant, table: ReadTable, rows: number, census: Census): void {
  if (table.class === "shared") return;
  const counted = census.rowsOf(id, table.table.oid);
  if (rows === counted) return;
  throw new JBackupError(
    "verification_failed",
    `${rows} rows of ${table.table.shown} were read of tenant ${id}, and ${counted} were counted`,
    { hint: "look for a policy or a view that filters, then run the backup again" },
  );
}
