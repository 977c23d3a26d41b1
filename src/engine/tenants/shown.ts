import { JBackupError } from "../../domain/errors.js";
import type { Storage } from "../../storage/storage.js";

export interface Expected {
  key: string;
  bytes: number;
}

/** Fewer than these are looked at one by one. */
const LISTED_FROM = 8;
/** Backups of other days lie in between: when there are too many of them, a look at each is quicker than the list. */
const MOST_BETWEEN = 32;

/** Whatever a storage acknowledged must be there at its right size. One list tells it of many, for their keys lie close together. */
export async function requireShown(storage: Storage, expected: Expected[]): Promise<void> {
  const missing = new Map(expected.map(({ key, bytes }) => [key, bytes]));
  const keys = [...missing.keys()].sort();
  const [first, last] = [keys[0], keys.at(-1)];
  if (first === undefined || last === undefined) return;
  if (keys.length >= LISTED_FROM) {
    let read = 0;
    for await (const { key, bytes } of storage.list(commonPrefix(first, last), first.slice(0, -1))) {
      if (missing.get(key) === bytes) missing.delete(key);
      read++;
      if (missing.size === 0 || key >= last || read > keys.length * MOST_BETWEEN) break;
    }
  }
  for (const [key, bytes] of missing) {
    const found = await storage.stat(key);
    if (found?.bytes === bytes) continue;
    throw new JBackupError(
      "storage_unavailable",
      `storage ${storage.name} acknowledged ${key} but ${found === undefined ? "does not have it" : `has ${found.bytes} bytes of it`}`,
      { hint: `look into storage ${storage.name} with jbackup storages check` },
    );
  }
}

/** Up to the last slash that both have: a list begins with a whole folder. */
function commonPrefix(a: string, b: string): string {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return a.slice(0, a.lastIndexOf("/", at - 1) + 1);
}

/** So many at a time; the first failure lets no further one begin, and is thrown when those under way have ended. */
export async function inParallel<Item>(
  most: number,
  items: Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const waiting = items[Symbol.iterator]();
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (const item of waiting) {
      if (failures.length > 0) return;
      try {
        await work(item);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, most) }, worker));
  if (failures.length > 0) throw failures[0];
}
