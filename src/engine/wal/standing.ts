import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { WalClaim } from "../../format/format.js";
import type { Storage } from "../../storage/storage.js";
import { raiseAlert } from "../alert.js";
import type { Site } from "../site.js";
import type { WalObject } from "./lanes.js";
import { isBadCopy, OBJECT_MAX_BYTES, openStoredWal, type WalKeyOf } from "./sealedWal.js";

/** What stands in a storage already where a file of the WAL is to go. */
export type Standing =
  | { what: "same" | "gone" }
  /** Another content of that very file. Proved by its seal, or merely claimed where no key here opens it. */
  | { what: "other"; isProved: boolean }
  /** Nothing that this site ever sealed for that place: rot, or somebody's doing. */
  | { what: "planted"; why: JBackupError };

const NO_KEY_OF_OURS = [
  "object_missing",
  "manifest_unsigned",
  "manifest_forged",
  "manifest_foreign",
  "manifest_invalid",
] as const;

/** A key that nobody of us signed, or that is not there at all, has sealed nothing of ours. */
const isNoKeyOfOurs = (error: unknown): error is JBackupError => isJBackupError(error, ...NO_KEY_OF_OURS);

/** A header says of itself whatever its writer wants: that it tells of other content is believed only when the object opens. */
export async function whatIsThere(
  site: Site,
  storage: Storage,
  key: string,
  { name, mark, epoch }: Pick<WalObject, "name" | "mark" | "epoch">,
  keyOf: WalKeyOf,
): Promise<Standing> {
  try {
    const claim = await readTwice(() => claimOf(site, storage, key, name));
    if (claim.mark === mark) return { what: "same" };
    const dataKey = claim.epochId === epoch.id ? epoch.dataKey : await keyOf(claim.epochId).catch(keyTrouble);
    if (!Buffer.isBuffer(dataKey)) return dataKey;
    await readTwice(async () =>
      openStoredWal(
        site,
        await site.storage.readAll(storage, key, { maxBytes: OBJECT_MAX_BYTES }),
        name,
        async () => dataKey,
      ),
    );
    return { what: "other", isProved: true };
  } catch (error) {
    if (isJBackupError(error, "object_missing")) return { what: "gone" };
    if (isBadCopy(error)) return { what: "planted", why: error };
    throw error;
  }
}

function keyTrouble(error: unknown): Standing {
  if (isJBackupError(error, "no_key", "secret_unavailable")) return { what: "other", isProved: false };
  if (isNoKeyOfOurs(error)) return { what: "planted", why: error };
  throw error;
}

/** Before a copy is called bad, it is read once more. */
async function readTwice<Result>(read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    if (!isBadCopy(error)) throw error;
    return read();
  }
}

export const otherContent = (storage: string, name: string, key: string, isProved: boolean): JBackupError =>
  new JBackupError("conflict", `storage ${storage} holds ${name} with other content`, {
    hint: isProved
      ? "two clusters archive into one place, or one went back in time without a new timeline: give each a site of its own"
      : "no key on this host opens it; where the private key is, jbackup verify --all tells whether another cluster archives into this place or somebody put it there",
    details: { storage, key, isProved },
  });

/** What a stored object says of itself. */
export const claimOf = async (site: Site, storage: Storage, key: string, name: string): Promise<WalClaim> =>
  site.format.readWalClaim(await openingOf(site, storage, key), site.config.site, name);

/** The beginning of an object; short ones are shorter. */
async function openingOf(site: Site, storage: Storage, key: string): Promise<Buffer> {
  const facts = await storage.stat(key);
  if (facts === undefined) throw new JBackupError("object_missing", `storage ${storage.name} has no ${key}`);
  const end = Math.min(facts.bytes, site.format.OPENING_BYTES);
  const chunks: Uint8Array[] = [];
  if (end > 0)
    for await (const chunk of storage.get(key, { range: { start: 0, end }, signal: site.signal }))
      chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function alertPlanted(
  site: Site,
  storage: string,
  name: string,
  why: JBackupError,
): Promise<void> {
  const message = `storage ${storage} held something else in the place of ${name}, which is replaced now: ${reasonOf(why)}`;
  site.report.warn(message);
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: `wal_planted:${storage}:${name}`,
    message,
    hint: `find out who can write to storage ${storage}; jbackup verify --all looks at the rest of it`,
    storage,
  });
}
