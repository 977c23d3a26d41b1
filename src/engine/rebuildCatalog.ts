import type { LostAudit } from "../domain/auditHead.js";
import type { Backup, Copy } from "../domain/backup.js";
import { reasonOf } from "../domain/errors.js";
import type { Manifest } from "../domain/manifest.js";
import { recordOf } from "../domain/record.js";
import { parseManifestKey } from "../domain/reference.js";
import type { Storage } from "../storage/storage.js";
import { recordAudit } from "./audit.js";
import { lostAudit, REBUILD_ACTION } from "./auditWitnesses.js";
import { bringPinsBack } from "./pins.js";
import { readManifest } from "./readManifest.js";
import { alertRebuiltCopies } from "./rebuiltCopies.js";
import { manifestKey } from "./replicate.js";
import type { Site } from "./site.js";
import { trustedSigners } from "./siteKeys.js";
import { requireStorage, storagesForReading } from "./useStorages.js";

export interface RebuildReport {
  storages: string[];
  found: number;
  added: number;
  refused: { path: string; storage: string; reason: string }[];
  /** Entries of the audit that manifests know of, and this catalog has no longer. */
  lostAudit: LostAudit | null;
}

const AT_A_TIME = 8;

interface Sighting {
  manifest: Manifest;
  folder: string;
  storages: Storage[];
}

async function chosenStorages(site: Site, from: string | null): Promise<Storage[]> {
  if (from !== null) requireStorage(site, from);
  const away =
    from === null ? [] : site.config.storages.map(({ name }) => name).filter((name) => name !== from);
  return (await storagesForReading(site, away)).usable;
}

/** From the manifests alone: what the catalog lost comes back, what it knows better (verifications, notes of failures) stays. */
export async function rebuildCatalog(site: Site, request: { from: string | null }): Promise<RebuildReport> {
  const storages = await chosenStorages(site, request.from);
  const signers = await trustedSigners(site);
  const sightings = new Map<string, Sighting>();
  const refused: RebuildReport["refused"] = [];
  for (const storage of storages) {
    const keys: string[] = [];
    // a listing that fails half-way throws: it is never taken for an empty storage
    for await (const { key } of storage.list("backups/")) if (parseManifestKey(key) !== null) keys.push(key);
    for (let start = 0; start < keys.length; start += AT_A_TIME) {
      await Promise.all(
        keys
          .slice(start, start + AT_A_TIME)
          .map((key) => look(site, storage, key, signers, sightings, refused)),
      );
      site.report.progress({
        task: `reading manifests in ${storage.name}`,
        done: Math.min(keys.length, start + AT_A_TIME),
        total: keys.length,
        unit: "objects",
      });
    }
    site.report.progressEnd();
  }
  const seen = [...sightings.values()];
  const looked = [...storages, ...(await lookElsewhere(site, seen, storages))];
  const added = await addUnknown(site, seen, looked);
  await bringPinsBack(site, storages);
  const names = storages.map(({ name }) => name);
  const lost = await noteRebuild(
    site,
    { storages: names, found: sightings.size, added, refused: refused.length },
    seen.map(({ manifest }) => manifest),
  );
  return { storages: names, found: sightings.size, added, refused, lostAudit: lost };
}

/** The audit is in no manifest, so what was lost of it stays lost: all that can be done is to say so, where nobody can pass over it. */
async function noteRebuild(
  site: Site,
  what: Record<string, unknown>,
  manifests: Manifest[],
): Promise<LostAudit | null> {
  const lost = await lostAudit(site, manifests);
  await recordAudit(site, REBUILD_ACTION, site.config.site, { ...what, lostAudit: lost });
  return lost;
}

async function look(
  site: Site,
  storage: Storage,
  key: string,
  signers: string[],
  sightings: Map<string, Sighting>,
  refused: RebuildReport["refused"],
): Promise<void> {
  const place = parseManifestKey(key);
  if (place === null) return;
  try {
    const { manifest } = await readManifest(site, [storage], place, signers);
    const seen = sightings.get(place.id);
    if (seen) seen.storages.push(storage);
    else sightings.set(place.id, { manifest, folder: place.folder, storages: [storage] });
  } catch (error) {
    site.signal.throwIfAborted();
    refused.push({ path: key, storage: storage.name, reason: reasonOf(error) });
  }
}

/** The storages that were not read are asked whether they hold the same backups; one that does not answer is left out. */
async function lookElsewhere(site: Site, sightings: Sighting[], read: Storage[]): Promise<Storage[]> {
  const names = read.map(({ name }) => name);
  if (names.length === site.config.storages.length) return [];
  const { usable } = await storagesForReading(site, names, "any");
  for (const storage of usable)
    for (const sighting of sightings)
      if ((await storage.stat(manifestKey(sighting.folder))) !== undefined) sighting.storages.push(storage);
  return usable;
}

function copyOf(site: Site, sighting: Sighting, read: Storage[], known: Backup | undefined): Copy[] {
  return site.config.storages.flatMap(({ name, kind }): Copy[] => {
    const before = known?.copies.find(({ storage }) => storage === name);
    const wasRead = read.some((storage) => storage.name === name);
    const isThere = sighting.storages.some((storage) => storage.name === name);
    if (!wasRead) return before ? [before] : [];
    if (isThere && before?.status === "stored") return [before];
    const copy: Copy = {
      storage: name,
      kind,
      status: isThere ? "stored" : "missing",
      path: sighting.folder,
      bytes: isThere ? sighting.manifest.body.storedBytes : 0,
      verifiedAt: null,
    };
    return [copy];
  });
}

async function addUnknown(site: Site, sightings: Sighting[], read: Storage[]): Promise<number> {
  const rows: Backup[] = [];
  let added = 0;
  for (const sighting of sightings) {
    const { manifest } = sighting;
    const [known] = await site.catalog.backups({ reference: manifest.body.backupId, limit: 1 });
    if (!known) added++;
    const record = recordOf(manifest.body, manifest.digest, copyOf(site, sighting, read, known));
    const isFinished = known?.status === "completed" || known?.status === "verified";
    rows.push(isFinished ? { ...known, copies: record.copies } : record);
  }
  await site.catalog.saveBackups(rows);
  const lost = sightings.filter((sighting) => sighting.storages.length < read.length);
  await alertRebuiltCopies(site, lost.length);
  return added;
}
