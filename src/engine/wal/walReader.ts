import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { parseWalKey, type WalFile, walFolder, walKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { raiseAlert } from "../alert.js";
import type { Site } from "../site.js";
import { storagesForReading } from "../useStorages.js";
import { isBadCopy, OBJECT_MAX_BYTES, openStoredWal, walKeys } from "./sealedWal.js";
import { claimOf } from "./standing.js";

export interface WalEntry {
  file: WalFile;
  storedBytes: number;
  /** Where it was first stored: copies that were mended later say nothing of when it was written. */
  modifiedAt: Date;
  storages: string[];
}

/** Reads WAL from whichever storage has it. */
export interface WalReader {
  /** The content, without the zeros at its end; null when surely no storage has it. */
  get(name: string): Promise<Buffer | null>;
  list(): Promise<WalEntry[]>;
  /** When it was first stored; null when no storage that can be asked has it. */
  storedAt(name: string): Promise<Date | null>;
  /** Whether a stored object can be that file, by its header alone: that costs next to nothing, and needs no key. */
  isPlausible(name: string): Promise<boolean>;
  /** Storages that cannot be read now: what only they hold is not known. */
  readonly unread: Map<string, Error>;
}

/**
 * With `without: "lost"` the storages that cannot be read now are left out, as whoever planned with the others alone wants it;
 * else nothing is said to be missing while one of them might have it.
 */
export async function openWalReader(
  site: Site,
  systemId: string,
  { without, except = [] }: { without?: "lost"; except?: string[] } = {},
): Promise<WalReader> {
  const { usable, lost } = await storagesForReading(site, except);
  const unread = new Map(lost);
  const keyOf = walKeys(site, usable, systemId);
  const told = new Set<string>();

  const open = async (storage: Storage, name: string): Promise<Buffer> =>
    openStoredWal(
      site,
      await site.storage.readAll(storage, walKey(systemId, name), { maxBytes: OBJECT_MAX_BYTES }),
      name,
      keyOf,
    );

  return {
    unread,
    async get(name) {
      const unasked = without === "lost" ? [] : [...lost];
      const problems: [storage: string, error: JBackupError][] = unasked.map(([storage, error]) => [
        storage,
        error instanceof JBackupError ? error : new JBackupError("storage_unavailable", reasonOf(error)),
      ]);
      for (const storage of usable) {
        try {
          return await open(storage, name);
        } catch (error) {
          site.signal.throwIfAborted();
          if (!isJBackupError(error)) throw error;
          if (isJBackupError(error, "no_key", "secret_unavailable")) throw error;
          if (isJBackupError(error, "object_missing")) continue;
          problems.push([storage.name, error]);
          await alertBad(site, storage.name, name, error, told);
        }
      }
      if (problems.length === 0) return null;
      // "not there" is never concluded from a storage that could not be asked
      const why = problems.map(([storage, error]) => `${storage}: ${error.message}`).join("; ");
      // that every copy is bad is said only when every copy was seen
      const worst = problems.find(([, error]) => !isBadCopy(error)) ?? problems[0];
      throw new JBackupError(worst?.[1].code ?? "storage_unavailable", `${name} cannot be read (${why})`, {
        hint: "jbackup storages check shows what is wrong with each storage",
      });
    },
    async isPlausible(name) {
      for (const storage of usable) {
        try {
          await claimOf(site, storage, walKey(systemId, name), name);
          return true;
        } catch (error) {
          site.signal.throwIfAborted();
          if (!isJBackupError(error)) throw error;
          if (isJBackupError(error, "object_missing")) continue;
          if (!isBadCopy(error)) return true; // who cannot be asked denies nothing
          await alertBad(site, storage.name, name, error, told);
        }
      }
      return false;
    },
    async storedAt(name) {
      const times: Date[] = [];
      for (const storage of usable) {
        const facts = await storage.stat(walKey(systemId, name)).catch((error: unknown) => {
          site.signal.throwIfAborted();
          if (!isJBackupError(error)) throw error;
          unread.set(storage.name, error); // what another storage says counts
        });
        if (facts) times.push(facts.modifiedAt);
      }
      return times.sort((a, b) => a.getTime() - b.getTime())[0] ?? null;
    },
    async list() {
      const found = new Map<string, WalEntry>();
      for (const storage of usable) {
        try {
          for await (const { key, bytes, modifiedAt } of storage.list(`${walFolder(systemId)}/`)) {
            const parsed = parseWalKey(key);
            if (parsed === null) continue;
            const { file } = parsed;
            const known = found.get(file.name);
            if (known === undefined)
              found.set(file.name, { file, storedBytes: bytes, modifiedAt, storages: [storage.name] });
            else {
              known.storages.push(storage.name);
              if (modifiedAt < known.modifiedAt) known.modifiedAt = modifiedAt;
            }
          }
        } catch (error) {
          site.signal.throwIfAborted();
          unread.set(storage.name, error as Error);
        }
      }
      if (unread.size >= site.config.storages.length)
        throw new JBackupError(
          "storage_unavailable",
          `no storage can be listed (${[...unread].map(([name, error]) => `${name}: ${reasonOf(error)}`).join("; ")})`,
          { hint: "jbackup storages check shows what is wrong with each storage" },
        );
      return [...found.values()].sort((a, b) => (a.file.name < b.file.name ? -1 : 1));
    },
  };
}

async function alertBad(
  site: Site,
  storage: string,
  name: string,
  error: JBackupError,
  told: Set<string>,
): Promise<void> {
  if (told.has(`${storage}/${name}`)) return;
  told.add(`${storage}/${name}`);
  site.report.warn(`storage ${storage}: ${error.message}; trying the next storage`);
  if (!isBadCopy(error)) return;
  await raiseAlert(site, {
    type: "INTEGRITY_FAILURE",
    severity: "error",
    fingerprint: `bad_wal:${storage}:${name}`,
    message: `storage ${storage} has no good copy of ${name}: ${error.message}`,
    hint: "the other storages were used instead; look at this one with jbackup storages check",
    storage,
  });
}
