/** Where the chain of the audit stood. Every manifest carries it: signed, and in every storage, out of reach for whoever can write to the catalog. */
export interface AuditHead {
  entries: number;
  /** Of the last entry; null while there is none. */
  hash: string | null;
  /** The hash of the first entry: it tells the chains of two catalogs apart. */
  chain: string | null;
}

const isHash = (value: unknown): value is string => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);

/** What a manifest or a record says of the audit; null where it says nothing, as those of earlier versions do. */
export function auditHeadIn(metadata: Record<string, unknown>): AuditHead | null {
  const said = metadata.auditHead as Partial<Record<keyof AuditHead, unknown>> | null | undefined;
  if (typeof said !== "object" || said === null) return null;
  const { entries, hash, chain } = said;
  if (!Number.isSafeInteger(entries) || (entries as number) < 0) return null;
  if (entries === 0) return { entries: 0, hash: null, chain: null };
  return isHash(hash) && isHash(chain) ? { entries: entries as number, hash, chain } : null;
}

/** A backup, and what its signed manifest knows of the audit. */
export interface Witness {
  backupId: string;
  label: string;
  /** user@host */
  createdBy: string;
  head: AuditHead;
}

/** A catalog that was read back from the storages began its audit anew, and said what it had no longer. */
export interface AuditGap {
  rebuiltAt: string;
  rebuiltBy: string;
  /** The newest backup that knew of entries which were not there when the catalog was rebuilt. */
  backupId: string;
  label: string;
  entries: number;
}

/** What a rebuild writes down: the newest witness of entries that are gone. */
export type LostAudit = Pick<AuditGap, "backupId" | "label" | "entries">;

/** The part of a rebuild's entry that a later check goes by. */
export function gapIn(entry: {
  at: string;
  actor: string;
  detail: Record<string, unknown>;
}): AuditGap | null {
  const lost = entry.detail.lostAudit as Partial<Record<keyof AuditGap, unknown>> | null | undefined;
  if (typeof lost !== "object" || lost === null) return null;
  const { backupId, label, entries } = lost;
  if (typeof backupId !== "string" || typeof label !== "string" || typeof entries !== "number") return null;
  return { rebuiltAt: entry.at, rebuiltBy: entry.actor, backupId, label, entries };
}

/** The chain as the catalog has it, as far as the witnesses ask for it. */
export interface KnownChain {
  /** Hashes by the number of the entry. */
  hashes: ReadonlyMap<number, string>;
  gaps: readonly AuditGap[];
  /** Whether one catalog serves several hosts: then nobody's chain but this one can have been meant. */
  isShared: boolean;
  /** Where the check is made. */
  host: string;
}

export interface AuditVerdict {
  /** Its head is in the chain, and it is the newest of those. */
  confirmed: Witness | null;
  /** These know of entries that the chain should have and has not. Newest first. */
  contradicting: Witness[];
  /** These are older than a rebuild that wrote down what was lost. */
  explained: Witness[];
  /** These were made on other hosts, with catalogs of their own. */
  elsewhere: Witness[];
}

const newestFirst = (a: Witness, b: Witness): number => (a.backupId < b.backupId ? 1 : -1);

export const isInChain = ({ head }: Witness, hashes: KnownChain["hashes"]): boolean =>
  head.entries === 0 || hashes.get(head.entries) === head.hash;

/** Of user@host. */
export const hostOf = ({ createdBy }: { createdBy: string }): string =>
  createdBy.slice(createdBy.lastIndexOf("@") + 1);

/** Compares the chain with what signed manifests know of it. */
export function judgeWitnesses(witnesses: readonly Witness[], known: KnownChain): AuditVerdict {
  const verdict: AuditVerdict = { confirmed: null, contradicting: [], explained: [], elsewhere: [] };
  for (const witness of witnesses.toSorted(newestFirst)) {
    if (isInChain(witness, known.hashes)) verdict.confirmed ??= witness.head.entries === 0 ? null : witness;
    else if (isExplained(witness, known.gaps)) verdict.explained.push(witness);
    else if (isOfOtherCatalog(witness, known)) verdict.elsewhere.push(witness);
    else verdict.contradicting.push(witness);
  }
  return verdict;
}

const isExplained = (witness: Witness, gaps: readonly AuditGap[]): boolean =>
  gaps.some(({ backupId }) => witness.backupId <= backupId);

const isOfOtherCatalog = (witness: Witness, { hashes, isShared, host }: KnownChain): boolean =>
  !isShared && witness.head.chain !== hashes.get(1) && hostOf(witness) !== host;

/** What no earlier rebuild has said already. */
export function newestLost(
  witnesses: readonly Witness[],
  { hashes, gaps }: Pick<KnownChain, "hashes" | "gaps">,
): LostAudit | null {
  const [lost] = witnesses
    .filter((witness) => !isInChain(witness, hashes) && !isExplained(witness, gaps))
    .toSorted(newestFirst);
  if (lost === undefined) return null;
  return { backupId: lost.backupId, label: lost.label, entries: lost.head.entries };
}

const NEWEST = 5;

/**
 * A few of many: the newest ones, and older ones at distances that double, so that a cut which has been grown over since
 * still shows as long as a backup from before it is kept.
 */
export function sampleOf<Item>(newestFirst: readonly Item[]): Item[] {
  const wanted = new Set<number>();
  for (let at = 0; at < Math.min(NEWEST, newestFirst.length); at++) wanted.add(at);
  for (let at = 2 * NEWEST; at < newestFirst.length; at *= 2) wanted.add(at);
  if (newestFirst.length > 0) wanted.add(newestFirst.length - 1);
  return [...wanted].map((at) => newestFirst[at] as Item);
}
