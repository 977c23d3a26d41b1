import type { Restore } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import type { Signature } from "../../format/format.js";
import type { Site } from "../site.js";
import { sealingKeys, trustedSigners } from "../siteKeys.js";

const DOMAIN = "tenant restore";

/** The proof is signed: evidence for whoever asks later what was done to whom. */
export async function signReport(site: Site, report: unknown): Promise<Signature> {
  const { signing } = await sealingKeys(site);
  return site.format.signDetached(bytesOf(site, report), signing, DOMAIN);
}

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
