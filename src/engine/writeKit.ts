import { readFile } from "node:fs/promises";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import { type KitRecord, placeText } from "../domain/kitRecord.js";
import { writeFileAtomic } from "../sys/atomicFile.js";
import { recordAudit } from "./audit.js";
import { findBackup } from "./findBackup.js";
import { openDataKey } from "./openBackup.js";
import { kitText } from "./recoveryKit.js";
import type { Site } from "./site.js";
import { identities, recipientName, recipientsOf, trustedSigners } from "./siteKeys.js";

export const KIT_ACTION = "keys.kit";

/** How many of the newest backups a kit is tried on. */
const TRIED = 50;
const AT_A_TIME = 8;

export interface WrittenKit {
  file: string;
  /** Public halves of the keys in it. */
  opens: string[];
  /** For whom backups are sealed now, and whose private key is not in it. */
  missing: string[];
  /** How many stored backups it was tried on, and those that it does not open. */
  tried: number;
  notOpened: string[];
}

/** What a site's kit must be about now. */
export async function kitNow(site: Site): Promise<Omit<KitRecord, "holds">> {
  return {
    recipients: (await recipientsOf(site)).map(recipientName),
    signers: await trustedSigners(site),
    storages: site.config.storages.map(placeText),
  };
}

/** Written down, so that a kit which is not the right one any more is noticed. */
export const recordKit = async (site: Site, holds: string[]): Promise<void> =>
  recordAudit(site, KIT_ACTION, site.config.site, { holds, ...(await kitNow(site)) });

/** Everything that is needed to open the backups when this machine, and jbackup itself, are gone. */
export async function writeKit(site: Site, file: string): Promise<WrittenKit> {
  const own = await identities(site);
  if (own.length === 0)
    throw new JBackupError(
      "no_key",
      "this host holds no private key, so there is nothing to put into a kit",
      { hint: "run it where keys.identity is configured" },
    );
  const opens = own.map((identity) =>
    identity.kind === "x25519" ? site.format.recipientOf(identity.identity) : "passphrase",
  );
  const now = await kitNow(site);
  const text = kitText({
    site: site.config.site,
    madeAt: site.clock.now(),
    databaseUrl: (await site.config.database.url()).reveal(),
    identities: own.map((identity) => (identity.kind === "x25519" ? identity.identity.reveal() : null)),
    recipients: opens,
    sealedFor: now.recipients,
    signers: now.signers,
    storages: site.config.storages,
    script: await readFile(site.recoverScript, "utf8"),
  });
  const trial = await tryKeys(site);
  try {
    await writeFileAtomic(file, text);
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === "EEXIST";
    const message = isThere ? `${file} exists already` : `cannot write ${file}: ${reasonOf(error)}`;
    throw new JBackupError(isThere ? "target_refused" : "failed", message, {
      hint: "name another file with --out",
      cause: error,
    });
  }
  await recordKit(site, opens);
  return { file, opens, missing: now.recipients.filter((one) => !opens.includes(one)), ...trial };
}

/** The keys that go into the kit are those of this host: whatever they do not open here, the kit will not open either. */
async function tryKeys(site: Site): Promise<Pick<WrittenKit, "tried" | "notOpened">> {
  const known = await site.catalog
    .backups({ status: ["completed", "verified"], limit: TRIED })
    .catch((error: unknown) => {
      if (isJBackupError(error, "catalog_unavailable")) return []; // nothing is known to try
      throw error;
    });
  const sealed = known.filter(({ kind }) => kind !== "wal");
  let tried = 0;
  const notOpened: string[] = [];
  for (let start = 0; start < sealed.length; start += AT_A_TIME)
    await Promise.all(
      sealed.slice(start, start + AT_A_TIME).map(async ({ id, label }) => {
        try {
          await openDataKey(site, await findBackup(site, id));
          tried++;
        } catch (error) {
          site.signal.throwIfAborted();
          if (!(error instanceof JBackupError) || error.code === "bug") throw error;
          if (error.code === "no_key") {
            tried++;
            notOpened.push(label);
          } else site.report.warn(`the kit could not be tried on ${label}: ${error.message}`);
        }
      }),
    );
  return { tried, notOpened: notOpened.sort() };
}
