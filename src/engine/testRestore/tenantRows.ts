import { createHash } from "node:crypto";
import { JBackupError } from "../../domain/errors.js";
import type { TenantFacts, TenantTableFacts } from "../../domain/tenantBackup.js";
import type { Postgres, Session, TenantSnapshot } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import type { Tenant } from "../tenants/choose.js";
import { tenantSettings } from "../tenants/graph.js";
import { tableFactsOf } from "../tenants/tenantFiles.js";

/** A tenant's rows as they were recovered, described as a tenant's backup describes its own. Nothing is kept: they are read again when they are wanted. */
export interface RecoveredTenant {
  facts: TenantFacts;
  read(entry: string): AsyncIterable<Buffer>;
}

export async function recoveredTenant(
  site: Site,
  postgres: Postgres,
  snapshot: TenantSnapshot,
  tenant: Tenant,
  backupId: string,
): Promise<RecoveredTenant> {
  const session = snapshot.sessions[0] as Session;
  const tables = postgres.tenants.tablesToRead(snapshot.graph);
  const facts: TenantTableFacts[] = [];
  for (const [nth, table] of tables.entries()) {
    const hash = createHash("sha256");
    let rows = 0;
    let bytes = 0;
    for await (const chunk of postgres.tenants.readOne(session, table, tenant.id, site.signal)) {
      hash.update(chunk);
      rows += postgres.tenants.countLines(chunk);
      bytes += chunk.length;
    }
    facts.push(tableFactsOf(table, nth, { rows, bytes, sha256: hash.digest("hex") }));
  }
  return {
    facts: {
      id: tenant.id,
      name: tenant.name,
      source: { kind: "backup", backupId, moment: "a test restore" },
      snapshotAt: snapshot.takenAt,
      lsn: snapshot.lsn,
      database: snapshot.database,
      schemaFingerprint: snapshot.schemaFingerprint,
      role: snapshot.role,
      isolation: tenantSettings(site).isolation,
      tables: facts,
    },
    read: (entry) => {
      const nth = facts.findIndex((one) => one.entry === entry);
      const table = tables[nth];
      if (table === undefined) throw new JBackupError("bug", `no table was read as ${entry}`);
      return postgres.tenants.readOne(session, table, tenant.id, site.signal);
    },
  };
}
