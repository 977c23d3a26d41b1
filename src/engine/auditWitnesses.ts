import {
  type AuditGap,
  type AuditVerdict,
  auditHeadIn,
  gapIn,
  hostOf,
  judgeWitnesses,
  type KnownChain,
  type LostAudit,
  newestLost,
  sampleOf,
  type Witness,
} from "../domain/auditHead.js";
import { isHeld } from "../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Manifest } from "../domain/manifest.js";
import { folderOf, parseManifestKey } from "../domain/reference.js";
import type { Storage } from "../storage/storage.js";
import { catalogId, isShared } from "./catalogId.js";
import { readManifest } from "./readManifest.js";
import type { Site } from "./site.js";
import { trustedSigners } from "./siteKeys.js";
import { lastMonths } from "./status/fromStorages.js";
import { storagesForReading } from "./useStorages.js";

/** What a rebuild of the catalog is called in the audit: it tells what the new chain has not. */
export const REBUILD_ACTION = "catalog.rebuild";

export interface AuditState extends AuditVerdict {
  entries: number;
  /** The first entry that does not follow from the one before. */
  brokenAt: string | null;
  head: string | null;
  /** There is none, and there are backups: a site's first job makes one. */
  isEmptied: boolean;
  /** What rebuilds of the catalog said to be lost. */
  gaps: AuditGap[];
  /** Backups that were looked at, and whose manifests say nothing of the audit. */
  silent: number;
  /** Backups that could not be asked. */
  unread: { backupId: string; problem: string }[];
  storagesAway: { storage: string; problem: string }[];
}

export const isSoundAudit = ({ brokenAt, isEmptied, contradicting }: AuditState): boolean =>
  brokenAt === null && !isEmptied && contradicting.length === 0;

/** The chain by itself, and held against what the newest signed manifests know of it. */
export async function examineAudit(site: Site): Promise<AuditState> {
  // the witnesses first: whatever they know is in the chain by the time that it is read
  const heard = await hearWitnesses(site);
  const chain = await site.catalog.checkAudit();
  const known = await knownChain(site, heard.witnesses);
  const gaps = [...known.gaps];
  const verdict = judgeWitnesses(heard.witnesses, known);
  const { silent, unread, storagesAway } = heard;
  const isEmptied = chain.entries === 0 && heard.isUsed;
  return { ...chain, ...verdict, isEmptied, gaps, silent, unread, storagesAway };
}

interface Heard extends Pick<AuditState, "silent" | "unread" | "storagesAway"> {
  witnesses: Witness[];
  /** This catalog has backups of its own: its audit cannot be empty. */
  isUsed: boolean;
}

async function hearWitnesses(site: Site): Promise<Heard> {
  const { usable, lost } = await storagesForReading(site, [], "any");
  const storagesAway = [...lost].map(([storage, error]) => ({ storage, problem: reasonOf(error) }));
  const recorded = await placesInCatalog(site);
  const places = await sampledPlaces(site, usable, recorded, storagesAway);
  const heard: Heard = { witnesses: [], isUsed: recorded.length > 0, silent: 0, unread: [], storagesAway };
  if (places.length === 0) return heard;
  const signers = await signersOf(site);
  const own = await catalogId(site);
  await Promise.all(
    places.map(async (place) => {
      try {
        if (signers instanceof JBackupError) throw signers;
        const { manifest } = await readManifest(site, usable, place, signers);
        const witness = witnessOf(manifest);
        if (isOwn(site, manifest, witness, own)) heard.isUsed = true;
        if (witness === null) heard.silent++;
        else heard.witnesses.push(witness);
      } catch (error) {
        site.signal.throwIfAborted();
        if (!(error instanceof JBackupError)) throw error;
        heard.unread.push({ backupId: place.id, problem: error.message });
      }
    }),
  );
  return heard;
}

/** Whether it was made with this catalog; one that does not say which is taken for the host's. */
const isOwn = (site: Site, { body }: Manifest, witness: Witness | null, own: string | null): boolean =>
  isShared(site) ||
  (witness?.head.catalog === undefined
    ? hostOf(body) === site.environment.host
    : witness.head.catalog === own);

async function knownChain(site: Site, witnesses: Witness[]): Promise<KnownChain> {
  const { catalog } = site;
  const numbers = new Set([1, ...witnesses.map(({ head }) => head.entries)]);
  const hashes = await catalog.auditHashes([...numbers]);
  // they are many, and tell only where a chain is another
  const isAsked = witnesses.some(({ head }) => head.chain !== null && head.chain !== hashes.get(1));
  const runs = new Set(isAsked ? (await catalog.runs()).map(({ id }) => id) : []);
  const gaps = await gapsIn(site);
  return { hashes, gaps, isShared: isShared(site), catalog: await catalogId(site), runs };
}

/** Without them no manifest is believed, and the chain is still worth a look. */
const signersOf = (site: Site): Promise<string[] | JBackupError> =>
  trustedSigners(site).catch((error: unknown) => {
    if (isJBackupError(error, "no_key", "secret_unavailable")) return error;
    throw error;
  });

function witnessOf({ body }: Manifest): Witness | null {
  const head = auditHeadIn(body.metadata);
  const { backupId, label, createdBy, jobId } = body;
  return head === null ? null : { backupId, label, createdBy, jobId, head };
}

interface Place {
  id: string;
  folder: string;
  tenantId: string | null;
}

const newestFirst = (a: Place, b: Place): number => (a.id < b.id ? 1 : -1);

/** From the storages as well: who cut the catalog's audit may have filled its other tables with what he likes. */
async function sampledPlaces(
  site: Site,
  usable: Storage[],
  recorded: Place[],
  storagesAway: AuditState["storagesAway"],
): Promise<Place[]> {
  const listed = new Map<string, Place>();
  await Promise.all(
    usable.map(async (storage) => {
      try {
        await listNewest(site, storage, listed, recorded.length === 0);
      } catch (error) {
        site.signal.throwIfAborted();
        if (!(error instanceof JBackupError)) throw error;
        storagesAway.push({ storage: storage.name, problem: error.message });
      }
    }),
  );
  const sampled = new Map(sampleOf(recorded).map((place) => [place.id, place]));
  for (const place of sampleOf([...listed.values()].sort(newestFirst))) sampled.set(place.id, place);
  return [...sampled.values()];
}

async function placesInCatalog(site: Site): Promise<Place[]> {
  const places: Place[] = [];
  for (const kind of ["full", "config", "tenant"] as const) {
    // tenants' come by the thousand, and all of one run say the same
    const limit = kind === "tenant" ? { limit: 1 } : {};
    const known = await site.catalog.backups({ kind, status: ["completed", "verified"], ...limit });
    for (const { id, tenantId, createdAt } of known.filter(isHeld))
      places.push({ id, folder: folderOf(kind, id, new Date(createdAt), tenantId), tenantId });
  }
  return places.sort(newestFirst);
}

const ENOUGH = 5;

/** The newest of full and config backups, month by month. Where nothing is known of any backup, all of them are looked for. */
async function listNewest(
  site: Site,
  storage: Storage,
  listed: Map<string, Place>,
  hasNoRecord: boolean,
): Promise<void> {
  const list = async (folder: string): Promise<number> => {
    let found = 0;
    for await (const { key } of storage.list(folder)) {
      const place = parseManifestKey(key);
      if (place === null) continue;
      listed.set(place.id, place);
      found++;
    }
    return found;
  };
  let found = 0;
  for (const kind of ["full", "config"]) {
    let ofKind = 0;
    for (const month of lastMonths(site.clock.now()))
      if (ofKind < ENOUGH) ofKind += await list(`backups/${kind}/${month}/`);
    found += ofKind;
  }
  if (found === 0 && hasNoRecord) await list("backups/");
}

const gapsIn = async ({ catalog }: Site): Promise<AuditGap[]> =>
  (await catalog.audit(undefined, REBUILD_ACTION)).flatMap((entry) => gapIn(entry) ?? []);

/** What this catalog's audit lacks of what the manifests know. */
export async function lostAudit(site: Site, manifests: Manifest[]): Promise<LostAudit | null> {
  const witnesses = manifests.flatMap((manifest) => witnessOf(manifest) ?? []);
  return newestLost(witnesses, await knownChain(site, witnesses));
}
