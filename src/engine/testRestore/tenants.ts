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
import { failed, noted, type Protocol, passed, type Verdict } from "./protocol.js";
import { type OwnBackup, rowsText, takenOutAndBack } from "./tenantBack.js";
import { type RecoveredTenant, recoveredTenant } from "./tenantRows.js";
import type { Tested } from "./tested.js";

export interface TenantSample {
  tenants: number;
  /** Decides who is chosen: the same test chooses the same again. */
  seed: string;
  backupId: string;
}

/** Some tenants, chosen by lot: compared with their backups, taken out of what was recovered, and brought back. */
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
    const others = { areSame: true };
    for (const tenant of chosen)
      await checkTenant(site, tested, protocol, {
        tenant,
        snapshot: snapshot as TenantSnapshot,
        sample,
        others,
      });
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
  others: { areSame: boolean };
}

async function checkTenant(site: Site, tested: Tested, protocol: Protocol, chosen: Chosen): Promise<void> {
  const { tenant, snapshot, sample, others } = chosen;
  let recovered: RecoveredTenant | undefined;
  let own: OwnBackup | null = null;
  const name = `tenant ${tenant.id}`;
  const { status } = await protocol.check(
    `${name}: rows`,
    "its rows as recovered, against its newest backup",
    async () => {
      recovered = await recoveredTenant(site, tested.postgres, snapshot, tenant, sample.backupId);
      own = await newestOwn(site, tenant.id);
      return own === null ? withoutBackup(recovered) : compared(recovered, own, tested);
    },
  );
  if (recovered === undefined) return;
  const source = (own as OwnBackup | null) ?? {
    label: "what was recovered",
    ...(recovered as RecoveredTenant),
  };
  others.areSame &&= own === null || status === "passed";
  const back = await protocol.check(
    `${name}: restore`,
    `taken out, and brought back from ${source.label} by the module that restores tenants`,
    () => takenOutAndBack(site, tested, { ...source, isSame: others.areSame }),
  );
  others.areSame &&= back.status === "passed";
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
