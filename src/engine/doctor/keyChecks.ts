import { judgeKeys } from "../../domain/diagnosis.js";
import { isJBackupError } from "../../domain/errors.js";
import { type FoundBackup, findBackup } from "../findBackup.js";
import { openDataKey } from "../openBackup.js";
import { isOutOfReach, nextOlderIn } from "../passedOver.js";
import type { Site } from "../site.js";
import { identities, recipientName, recipientsOf } from "../siteKeys.js";
import { ageOf, type Check } from "./check.js";

const AUDIT_LOOK = 10_000;

export const keys: Check = {
  group: "keys",
  name: "keys",
  look: async (site) => {
    const isGenerated = site.config.keys.generatedIn !== null;
    const own = await identities(site);
    // a site that has no keys yet gets them from its first backup, not from a look at it
    const recipients =
      isGenerated && own.length === 0 ? ["to be made"] : (await recipientsOf(site)).map(recipientName);
    const { label, opens } = await tryNewest(site, own.length > 0);
    const audit = await site.catalog.audit(AUDIT_LOOK);
    const last = (action: string): number | null =>
      ageOf(site, audit.find((one) => one.action === action)?.at);
    return judgeKeys({
      recipients,
      isGenerated,
      label,
      opens,
      testedAgeMs: last("keys.test"),
      kitAgeMs: last("keys.kit"),
    });
  },
};

async function newestBackup(site: Site): Promise<FoundBackup> {
  try {
    return await findBackup(site, "latest");
  } catch (error) {
    if (!isJBackupError(error)) throw error;
    const older = nextOlderIn(error);
    if (older !== null) return findBackup(site, older);
    if (error.code !== "not_found" || isOutOfReach(error)) throw error;
    return findBackup(site, "latest", "config");
  }
}

async function tryNewest(
  site: Site,
  hasIdentity: boolean,
): Promise<{ label: string | null; opens: boolean | null }> {
  try {
    const found = await newestBackup(site);
    const { label } = found.manifest.body;
    if (!hasIdentity) return { label, opens: null };
    try {
      await openDataKey(site, found);
      return { label, opens: true };
    } catch (error) {
      if (!isJBackupError(error, "no_key")) throw error;
      return { label, opens: false };
    }
  } catch (error) {
    if (!isJBackupError(error, "not_found")) throw error;
    return { label: null, opens: null };
  }
}
