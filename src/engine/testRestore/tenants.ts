import { createHash } from "node:crypto";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import { compareTenants } from "../../domain/tenantComparison.js";
import type { Session, TenantSnapshot } from "../../postgres/postgres.js";
import type { FoundBackup } from "../findBackup.js";
import { openBackup } from "../openBackup.js";
import type { Site } from "../site.js";
import { listTenants, type Tenant } from "../tenants/choose.js";
import { requireDecided, tenantGraph } from "../tenants/graph.js";
import { newestOfTenant } from "../tenants/newest.js";
import { failed, noted, type Protocol, passed, skipped, type Verdict } from "./protocol.js";
import { type RecoveredTenant, recoveredTenant } from "./tenantRows.js";
import type { Tested } from "./tested.js";

export interface TenantSample {
  tenants: number;
  /** Decides who is chosen: the same test chooses the same again. */
  seed: string;
  backupId: string;
}

/** The database that tenants come back into: the schema, and nobody in it. */
const EMPTY = "jbackup_test_tenants";

/** Some tenants, chosen by lot: taken out of what was recovered, compared with their backups, and brought back into an empty database. */
export async function checkTenants(
  site: Site,
  tested: Tested,
  protocol: Protocol,
  sample: TenantSample,
): Promise<void> {
  if (sample.tenants === 0) return;
  const { postgres } = tested;
  let snapshot: TenantSnapshot | undefined;
  try {
    const chosen: Tenant[] = [];
    await protocol.check("tenants", "whose rows are whose, and who is there", async () => {
      snapshot = await postgres.tenants.openSnapshot({
        connect: () => postgres.connect(),
        readGraph: (session) => tenantGraph(site, postgres, session),
        sessions: 1,
      });
      requireDecided(snapshot.graph);
      const all = await listTenants(site, snapshot.sessions[0] as Session, snapshot.graph, "all");
      const active = all.filter(({ isActive }) => isActive);
      chosen.push(...lot(active, sample));
      const expected = "at least one active tenant";
      if (active.length === 0) return failed(expected, `none is active, of ${all.length}`);
      const names = chosen.map(({ id, name }) => (name === null ? id : `${id} (${name})`));
      return passed(expected, `${active.length} are active; chosen by lot: ${names.join(", ")}`);
    });
    for (const tenant of chosen)
      await checkTenant(site, tested, protocol, { tenant, snapshot: snapshot as TenantSnapshot, sample });
  } finally {
    await snapshot?.close();
  }
}

/** By the digest of the seed with each id: nobody can choose in advance, and everybody can choose again. */
function lot(tenants: Tenant[], { seed, tenants: many }: TenantSample): Tenant[] {
  const rank = ({ id }: Tenant): string => createHash("sha256").update(`${seed}\0${id}`).digest("hex");
  return tenants
    .map((tenant) => ({ tenant, rank: rank(tenant) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
    .slice(0, many)
    .map(({ tenant }) => tenant);
}

interface Chosen {
  tenant: Tenant;
  snapshot: TenantSnapshot;
  sample: TenantSample;
}

interface OwnBackup {
  label: string;
  facts: TenantFacts;
  read(entry: string): AsyncIterable<Buffer>;
}

async function checkTenant(site: Site, tested: Tested, protocol: Protocol, chosen: Chosen): Promise<void> {
  const { tenant, snapshot, sample } = chosen;
  let recovered: RecoveredTenant | undefined;
  let own: OwnBackup | null = null;
  const name = `tenant ${tenant.id}`;
  await protocol.check(`${name}: rows`, "its rows as recovered, against its newest backup", async () => {
    recovered = await recoveredTenant(site, tested.postgres, snapshot, tenant, sample.backupId);
    own = await newestOwn(site, tenant.id);
    return own === null ? withoutBackup(recovered) : compared(recovered, own, tested);
  });
  if (recovered === undefined) return;
  const from = (own as OwnBackup | null) ?? {
    label: "what was recovered",
    ...(recovered as RecoveredTenant),
  };
  await protocol.check(
    `${name}: restore`,
    `brought back out of ${from.label} into an empty database, by the module that restores tenants`,
    () => restoredAlone(site, tested, from),
  );
}

async function newestOwn(site: Site, tenantId: string): Promise<OwnBackup | null> {
  let found: FoundBackup;
  try {
    found = await newestOfTenant(site, tenantId);
  } catch (error) {
    if (isJBackupError(error, "not_found")) return null;
    throw error;
  }
  const opened = await openBackup(site, found);
  const { label } = found.manifest.body;
  const facts = opened.contents.detail.tenant as TenantFacts | undefined;
  if (facts?.id !== tenantId)
    throw new JBackupError("manifest_foreign", `${label} does not hold tenant ${tenantId}`);
  return { label, facts, read: (entry) => opened.read(opened.entry(entry)) };
}

const rowsText = (rows: number): string => `${rows.toLocaleString("en")} rows`;

function withoutBackup({ facts }: RecoveredTenant): Verdict {
  const { rows, equal } = compareTenants(facts, facts);
  return noted("its newest backup", `it has none; ${rowsText(rows)} in ${equal} tables were read`);
}

/** A tenant goes on working: where its backup and the recovered moment differ, only rows that are equal prove something. */
function compared({ facts }: RecoveredTenant, own: OwnBackup, { recovery }: Tested): Verdict {
  const { equal, differing, rows } = compareTenants(facts, own.facts);
  const expected = `the rows in ${own.label}, read at ${own.facts.snapshotAt}`;
  const all = equal + differing.length;
  if (differing.length === 0)
    return passed(expected, `all ${all} tables equal by SHA-256, ${rowsText(rows)}`);
  const apart = `the backup is of ${own.facts.snapshotAt}, the recovered data of ${recovery.recoveredTo}`;
  return noted(
    expected,
    `${equal} of ${all} tables equal by SHA-256; others changed in between: ${differing.slice(0, 5).join(", ")} (${apart})`,
  );
}

/** Its rows come back from the backup, and are read back and compared by digest before they are committed. */
async function restoredAlone(site: Site, { postgres, major }: Tested, from: OwnBackup): Promise<Verdict> {
  const expected = "every row back, each table equal by SHA-256, no reference broken";
  const made = await emptyDatabase(postgres, major);
  if (made !== null) return skipped(expected, made);
  const session = await postgres.connect(EMPTY);
  try {
    const graph = await tenantGraph(site, postgres, session);
    const { blockers, proof } = await postgres.tenants.restore({
      session,
      observe: () => postgres.connect(EMPTY),
      graph,
      facts: from.facts,
      read: from.read,
      changes: { createMissing: true, updateExisting: true, deleteNew: true },
      tables: [],
      withShared: true,
      triggers: "off",
      cloning: null,
      erasures: null,
      expectPlan: null,
      mayOverwrite: false,
      provesOthers: false,
      isDryRun: false,
      signal: site.signal,
      cancel: async () => session.abort(),
      onStaged: () => undefined,
      onWritten: () => undefined,
      onProved: async () => undefined,
      onCommitted: () => undefined,
    });
    if (proof === null) return failed(expected, blockers.join("; "));
    const rows = proof.digests.reduce((sum, one) => sum + one.rows, 0);
    return passed(
      expected,
      `${rowsText(rows)} in ${proof.digests.length} tables equal by SHA-256, ${proof.foreignKeys.length} foreign keys hold`,
    );
  } finally {
    await session.close();
  }
}

/** Made for the first tenant. Null: it is there; else why it cannot be. */
async function emptyDatabase(postgres: Tested["postgres"], major: number): Promise<string | null> {
  const admin = await postgres.admin();
  try {
    if (await postgres.restoring.exists(admin, EMPTY)) return null;
    await postgres.restoring.copySchema({ admin, from: postgres.database, to: EMPTY, major });
    return null;
  } catch (error) {
    if (!isJBackupError(error, "environment", "version_mismatch")) throw error;
    return error.message;
  } finally {
    await admin.close();
  }
}
