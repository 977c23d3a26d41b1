import { isJBackupError } from "../domain/errors.js";
import type { Manifest } from "../domain/manifest.js";
import type { Site } from "./site.js";
import type { SealingKeys } from "./siteKeys.js";

const PASSPHRASE = "passphrase";

const namesOf = ({ recipients }: SealingKeys): string[] =>
  recipients.map((one) => (one.kind === "x25519" ? one.publicKey : PASSPHRASE)).sort();

/** Who opens what is stored now, to be noted: another passphrase is another one, and none is given away. */
export const noteOfRecipients = ({ format }: Site, { recipients, signing }: SealingKeys): string[] =>
  recipients
    .map((one) =>
      one.kind === "x25519" ? one.publicKey : `${PASSPHRASE} ${format.secretTag(one.passphrase, signing)}`,
    )
    .sort();

/** Whether exactly those open it who are to open what is stored now. What others open must not be built on. */
export async function isSealedFor(
  { format }: Site,
  { keys, body: { backupId, keyCommitment } }: Manifest,
  sealing: SealingKeys,
): Promise<boolean> {
  const there = keys.map((key) => (key.kind === "x25519" ? key.recipient : PASSPHRASE)).sort();
  if (namesOf(sealing).join() !== there.join()) return false;
  for (const recipient of sealing.recipients) {
    if (recipient.kind === "x25519") continue;
    try {
      await format.unwrapDataKey(keys, [recipient], { backupId, commitment: keyCommitment });
    } catch (error) {
      if (!isJBackupError(error, "no_key", "manifest_invalid")) throw error;
      return false; // it is another passphrase's
    }
  }
  return true;
}
