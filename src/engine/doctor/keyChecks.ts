import { judgeKeys } from "../../domain/diagnosis.js";
import { isJBackupError } from "../../domain/errors.js";
import { kitDrift, readKitRecord } from "../../domain/kitRecord.js";
import { type FoundBackup, findBackup } from "../findBackup.js";
import { nameOfKey } from "../keys.js";
import { openDataKey } from "../openBackup.js";
import { isOutOfReach, nextOlderIn } from "../passedOver.js";
import type { Site } from "../site.js";
import { identities, recipientName, recipientsOf } from "../siteKeys.js";
import { KIT_ACTION, kitNow } from "../writeKit.js";
import { ageOf, type Check } from "./check.js";

export const keys: Check = {
  group: "keys",
  name: "keys",
  look: async (site) => {
    const isGenerated = site.config.keys.generatedIn !== null;
    const own = await identities(site);
    // a site that has no keys yet gets them from its first backup, not from a look at it
    const recipients =
      isGenerated && own.length === 0 ? ["to be made"] : (await recipientsOf(site)).map(recipientName);
    const { label, opens, sealedFor } = await tryNewest(site, own.length > 0);
    const [tested] = await site.catalog.audit(1, "keys.test");
    const [kit] = await site.catalog.audit(1, KIT_ACTION);
    return judgeKeys({
      recipients,
      isGenerated,
      label,
      opens,
      testedAgeMs: ageOf(site, tested?.at),
      kitAgeMs: ageOf(site, kit?.at),
      kitDrift:
        kit === undefined
          ? []
          : kitDrift(readKitRecord(kit.detail), {
              ...(await kitNow(site)),
              newest: label === null ? null : { label, sealedFor },
            }),
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
): Promise<{ label: string | null; opens: boolean | null; sealedFor: string[] }> {
  try {
    const found = await newestBackup(site);
    const { label } = found.manifest.body;
    const sealedFor = found.manifest.keys.map(nameOfKey);
    if (!hasIdentity) return { label, opens: null, sealedFor };
    try {
      await openDataKey(site, found);
      return { label, opens: true, sealedFor };
    } catch (error) {
      if (!isJBackupError(error, "no_key")) throw error;
      return { label, opens: false, sealedFor };
    }
  } catch (error) {
    if (!isJBackupError(error, "not_found")) throw error;
    return { label: null, opens: null, sealedFor: [] };
  }
}
