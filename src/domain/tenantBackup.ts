/** What a tenant's backup says of itself, in its sealed contents under `tenant`. */
export interface TenantFacts {
  id: string;
  /** By tenants.nameColumn. */
  name: string | null;
  /** Where the rows were read: the live database, or a server of our own that stood at a moment of the past. `rules` stands for the configuration that said whose rows are whose. */
  source: { kind: "live" } | { kind: "backup"; backupId: string; moment: string; rules?: string };
  /** When and where in the WAL the snapshot was taken. */
  snapshotAt: string;
  lsn: string;
  database: string;
  /** SHA-256 over everything about the tables that a restore relies on. */
  schemaFingerprint: string;
  role: string;
  isolation: "none" | "rls";
  tables: TenantTableFacts[];
}

export interface TenantTableFacts {
  /** As people write it. */
  table: string;
  schema: string;
  name: string;
  /** Shared tables: only those rows that the tenant's rows refer to. */
  class: "root" | "direct" | "child" | "shared";
  /** Of what the COPY text holds, in its order; generated columns are not among them. */
  columns: { name: string; type: string; isNotNull: boolean }[];
  keyColumns: string[];
  rows: number;
  /** Of the COPY text, ordered by key. The same for the entry of that name. */
  bytes: number;
  sha256: string;
  entry: string;
}
