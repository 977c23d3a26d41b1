import type { Restore } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import type { Signature } from "../../format/format.js";
import type { TenantRestored } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { sealingKeys, trustedSigners } from "../siteKeys.js";

const DOMAIN = "tenant restore";

/** What a restore wrote, as the proof has it. It is signed: evidence for whoever asks later what was done to whom. */
export type Evidence = {
  planHash: string;
  /** The transaction: PostgreSQL can tell later whether it was committed. */
  xid: string | null;
  report: Pick<TenantRestored, "tenantId" | "planHash" | "tables" | "proof">;
  signature: Signature;
};

export async function evidenceOf(
  site: Site,
  { tenantId, planHash, tables, proof }: TenantRestored,
): Promise<Evidence> {
  const report = { tenantId, planHash, tables, proof };
  const { signing } = await sealingKeys(site);
  const signature = site.format.signDetached(bytesOf(site, report), signing, DOMAIN);
  return { planHash, xid: proof?.xid ?? null, report, signature };
}

export const writtenIn = ({
  tables,
}: Pick<TenantRestored, "tables">): Pick<Restore, "tables" | "rowsRestored"> => ({
  tables: tables.map(({ conflicts: _, ...table }) => table),
  rowsRestored: tables.reduce((sum, { inserted, updated }) => sum + inserted + updated, 0),
});

/** A catalog may keep the fields in another order: what is signed does not depend on it. */
const bytesOf = (site: Site, report: unknown): Buffer => Buffer.from(site.format.canonicalJson(report));

export interface ReportCheck {
  signer: string;
  isGenuine: boolean;
}

/** Whether the record still says what was signed when the restore was made. Null: there is no report, as of other restores. */
export async function checkReport(site: Site, { metadata }: Restore): Promise<ReportCheck | null> {
  const { report, signature } = metadata as { report?: unknown; signature?: Signature };
  if (report === undefined || signature === undefined) return null;
  const signers = await trustedSigners(site);
  try {
    site.format.verifyDetached(bytesOf(site, report), signature, { signers, domain: DOMAIN });
    return { signer: signature.signer, isGenuine: true };
  } catch (error) {
    if (!isJBackupError(error, "verification_failed")) throw error;
    return { signer: signature.signer, isGenuine: false };
  }
}
