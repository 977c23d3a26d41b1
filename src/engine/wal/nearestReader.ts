import { isJBackupError } from "../../domain/errors.js";
import type { Site } from "../site.js";
import { openWalReader, type WalReader } from "./walReader.js";

/**
 * Reads a file from the nearest storage that has it, and waits for none of the others: one that is down would cost every call
 * its time. Null says that none was found, not that there is none: a WalReader tells that.
 */
export function openNearestReader(site: Site, systemId: string): (name: string) => Promise<Buffer | null> {
  const all = site.config.storages.toSorted(
    (a, b) => Number(b.kind === "local") - Number(a.kind === "local"),
  );
  const readers = new Map<string, Promise<WalReader | null>>();
  const readerOf = (storage: string): Promise<WalReader | null> => {
    const known = readers.get(storage);
    if (known) return known;
    const except = all.flatMap(({ name }) => (name === storage ? [] : [name]));
    const opened = openWalReader(site, systemId, { without: "lost", except }).catch((error: unknown) =>
      passedOver(site, error),
    );
    readers.set(storage, opened);
    return opened;
  };
  return async (name) => {
    for (const storage of all) {
      const reader = await readerOf(storage.name);
      const content = await reader?.get(name).catch((error: unknown) => passedOver(site, error));
      if (content) return content;
    }
    return null;
  };
}

/** What is wrong with one storage does not matter while another one has the file; a key that is missing does. */
function passedOver(site: Site, error: unknown): null {
  site.signal.throwIfAborted();
  if (!isJBackupError(error) || isJBackupError(error, "no_key", "secret_unavailable")) throw error;
  return null;
}
