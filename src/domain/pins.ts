import type { Pin } from "./backup.js";

/** What one storage holds under the name of a backup's pin. */
export interface StoredPin {
  storage: string;
  backupId: string;
  /** Null where it cannot be read. */
  pin: Pin | null;
  /** Changed: its signature is not of a trusted signer over what it says. */
  trust: "signed" | "unsigned" | "changed";
}

export interface PinTrouble {
  storage: string;
  backupId: string;
  /** One sentence part. */
  problem: string;
  isTampering: boolean;
}

export interface JudgedPins {
  /** Why each backup is held. */
  held: Map<string, string>;
  /** The last word on each that is believed: what a lost catalog is told. */
  words: Map<string, Pin>;
  troubles: PinTrouble[];
}

/** Clocks may differ by that much. */
const AHEAD_MS = 5 * 60_000;

/**
 * What is pinned, by the catalog and all storages together. One storage is enough to hold a backup. To let go of it takes a word that
 * is signed or stands in the catalog, for whoever can write to one storage must not have backups removed from all of them.
 */
export function judgePins(known: Pin[], stored: StoredPin[], now: Date): JudgedPins {
  const judged: JudgedPins = { held: new Map(), words: new Map(), troubles: [] };
  const catalog = new Map(known.map((pin) => [pin.backupId, pin]));
  const storages = Map.groupBy(stored, ({ backupId }) => backupId);
  for (const id of new Set([...catalog.keys(), ...storages.keys()]))
    judgeOne(id, catalog.get(id), storages.get(id) ?? [], now, judged);
  return judged;
}

function judgeOne(
  id: string,
  inCatalog: Pin | undefined,
  stored: StoredPin[],
  now: Date,
  { held, words, troubles }: JudgedPins,
): void {
  const isAhead = (time: string | null): boolean =>
    time !== null && Date.parse(time) > now.getTime() + AHEAD_MS;
  const holds = ({ until }: Pin): boolean => until === null || Date.parse(until) > now.getTime();
  const signed = stored.flatMap(({ pin, trust }) =>
    pin !== null && trust === "signed" && !isAhead(pin.createdAt) && !isAhead(pin.removedAt) ? [pin] : [],
  );
  const last = [...(inCatalog ? [inCatalog] : []), ...signed].reduce<Pin | undefined>(
    (latest, pin) => (latest === undefined || saidMs(pin) > saidMs(latest) ? pin : latest),
    undefined,
  );
  const reasons: string[] = [];
  const unsigned: Pin[] = [];
  const isSuperseded = (time: string): boolean => last !== undefined && saidMs(last) >= Date.parse(time);
  if (last !== undefined && last.removedAt === null && holds(last)) reasons.push(last.reason);
  for (const { storage, pin, trust } of stored) {
    const trouble = (problem: string, isTampering = true): void =>
      void troubles.push({ storage, backupId: id, problem, isTampering });
    if (pin === null) {
      trouble("cannot be read", false);
      reasons.push(`its pin in storage ${storage} cannot be read`);
    } else if (trust === "changed") {
      trouble("was changed after it was signed");
      reasons.push(`its pin in storage ${storage} was changed after it was signed`);
    } else {
      const ahead = [pin.removedAt, pin.createdAt].find(isAhead);
      if (ahead !== undefined) trouble(`tells of ${ahead}, which is still to come`);
      else if (trust === "signed") continue; // counted above
      if (pin.removedAt !== null && !isAhead(pin.removedAt)) {
        if (isSuperseded(pin.removedAt)) continue;
        trouble("says that it was taken off, and nobody signed that");
      } else if (isSuperseded(pin.createdAt)) continue;
      if (!holds(pin)) continue;
      reasons.push(pin.reason);
      if (pin.removedAt === null) unsigned.push(pin);
    }
  }
  const [reason] = reasons;
  if (reason !== undefined) held.set(id, reason);
  const word = unsigned.toSorted((a, b) => saidMs(b) - saidMs(a))[0] ?? last;
  if (word !== undefined) words.set(id, word);
}

const saidMs = ({ removedAt, createdAt }: Pin): number => Date.parse(removedAt ?? createdAt);
