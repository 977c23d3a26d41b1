/** Where the chain of the audit stood. Every manifest carries it: signed, and in every storage, out of reach for whoever can write to the catalog. */
export interface AuditHead {
  entries: number;
  /** Of the last entry; null while there is none. */
  hash: string | null;
  /** The hash of the first entry: it tells the chains of two catalogs apart. */
  chain: string | null;
  /** Which catalog it is, of several that one site's hosts and homes have; manifests of earlier versions and of shared catalogs do not say. */
  catalog?: string;
}

const isHash = (value: unknown): value is string => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);

/** What a manifest or a record says of the audit; null where it says nothing, as those of earlier versions do. */
export function auditHeadIn(metadata: Record<string, unknown>): AuditHead | null {
  const said = metadata.auditHead as Partial<Record<keyof AuditHead, unknown>> | null | undefined;
  if (typeof said !== "object" || said === null) return null;
  const { entries, hash, chain } = said;
  const which = typeof said.catalog === "string" ? { catalog: said.catalog } : {};
  if (!Number.isSafeInteger(entries) || (entries as number) < 0) return null;
  if (entries === 0) return { entries: 0, hash: null, chain: null, ...which };
  return isHash(hash) && isHash(chain) ? { entries: entries as number, hash, chain, ...which } : null;
}

/** A backup, and what its signed manifest knows of the audit. */
export interface Witness {
  backupId: string;
  label: string;
  /** user@host */
  createdBy: string;
  jobId: string;
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
  /** The chains that were lost; null in what earlier versions wrote: then all that are as old. */
  chains: string[] | null;
}

/** What a rebuild writes down: the newest witness of entries that are gone. */
export type LostAudit = Pick<AuditGap, "backupId" | "label" | "entries"> & { chains: string[] };

/** The part of a rebuild's entry that a later check goes by. */
export function gapIn(entry: {
  at: string;
  actor: string;
  detail: Record<string, unknown>;
}): AuditGap | null {
  const lost = entry.detail.lostAudit as Partial<Record<keyof AuditGap, unknown>> | null | undefined;
  if (typeof lost !== "object" || lost === null) return null;
  const { backupId, label, entries } = lost;
  const chains = Array.isArray(lost.chains) ? lost.chains.filter(isHash) : null;
  if (typeof backupId !== "string" || typeof label !== "string" || typeof entries !== "number") return null;
  return { rebuiltAt: entry.at, rebuiltBy: entry.actor, backupId, label, entries, chains };
}

/** The chain as the catalog has it, as far as the witnesses ask for it. */
export interface KnownChain {
  /** Hashes by the number of the entry. */
  hashes: ReadonlyMap<number, string>;
  gaps: readonly AuditGap[];
  /** Whether one catalog serves several hosts: then nobody's chain but this one can have been meant. */
  isShared: boolean;
  /** Which one it is; null of a shared one, and before the first backup that says. */
  catalog: string | null;
  /** The ids of the runs that it knows: what they made was made with it, whatever else was changed. */
  runs: ReadonlySet<string>;
}

export interface AuditVerdict {
  /** Its head is in the chain, and it is the newest of those. */
  confirmed: Witness | null;
  /** These know of entries that the chain should have and has not. Newest first. */
  contradicting: Witness[];
  /** These are older than a rebuild that wrote down what was lost. */
  explained: Witness[];
  /** These were made with other catalogs: of another host, or of another home on this one. */
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

const isExplained = ({ backupId, head }: Witness, gaps: readonly AuditGap[]): boolean =>
  gaps.some((gap) => backupId <= gap.backupId && (gap.chains?.includes(head.chain ?? "") ?? true));

function isOfOtherCatalog(
  { head, jobId }: Witness,
  { hashes, isShared, catalog, runs }: Omit<KnownChain, "gaps">,
): boolean {
  if (head.chain === hashes.get(1) || runs.has(jobId)) return false;
  return head.catalog === undefined ? !isShared : head.catalog !== catalog;
}

/** What no earlier rebuild has said already. */
export function newestLost(witnesses: readonly Witness[], known: KnownChain): LostAudit | null {
  const lost = judgeWitnesses(witnesses, known).contradicting;
  const [newest] = lost;
  if (newest === undefined) return null;
  const chains = [...new Set(lost.flatMap(({ head }) => head.chain ?? []))];
  return { backupId: newest.backupId, label: newest.label, entries: newest.head.entries, chains };
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
