import type { Backup, Copy } from "../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Manifest, StoredObject } from "../domain/manifest.js";
import type { Storage } from "../storage/storage.js";
import { resolveAlert } from "./alert.js";
import { manifestToCopy } from "./provedKeys.js";
import { settleRebuiltCopies } from "./rebuiltCopies.js";
import { fetchVerified, manifestKey } from "./replicate.js";
import type { Site } from "./site.js";
import { trustedSigners } from "./siteKeys.js";
import { resolveForeign } from "./storageMarkers.js";
import { lastOfEachTenant } from "./tenants/lastOfEach.js";
import { lostFingerprint, nearestFirst, storagesForReading } from "./useStorages.js";

/** How far back a backup run looks for copies to complete: older gaps are verify's business. */
const LOOK_BACK = 20;

export type HealedKind = "full" | "tenant" | "config";

const missingIn = (backup: Backup): Copy[] => backup.copies.filter(({ status }) => status === "missing");

/**
 * Copies that a storage missed while it was away, brought in from the storages that have them.
 * `away` names the storages that are known not to work right now.
 */
export async function healMissing(site: Site, away: string[], kind: HealedKind = "full"): Promise<void> {
  const names = site.config.storages.map(({ name }) => name);
  await resolveForeign(
    site,
    names.filter((name) => !away.includes(name)),
  );
  const stillMissing = new Set(away);
  const lacked = new Set<string>();
  let sources: Sources | undefined;
  try {
    for await (const backups of newest(site, kind))
      for (const backup of backups) {
        const missing = missingIn(backup);
        if (missing.every(({ storage }) => away.includes(storage))) continue;
        for (const { storage } of missing) lacked.add(storage);
        sources ??= { ...(await storagesForReading(site, away)), signers: await trustedSigners(site) };
        await healBackup(site, backup, sources, stillMissing);
      }
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return; // what else is missing is not known
    throw error;
  }
  for (const name of lacked)
    if (!stillMissing.has(name) && !(await lacksOtherKinds(site, name, kind)))
      await resolveAlert(site, lostFingerprint(name), `storage ${name} has every copy again`);
  await settleRebuiltCopies(site);
}

interface Sources {
  usable: Storage[];
  signers: string[];
}

/** A storage that could not be given one is not tried with the next. */
async function healBackup(
  site: Site,
  backup: Backup,
  { usable, signers }: Sources,
  stillMissing: Set<string>,
): Promise<void> {
  for (const copy of missingIn(backup)) {
    const target = usable.find(({ name }) => name === copy.storage);
    const isHealed =
      target !== undefined &&
      !stillMissing.has(copy.storage) &&
      (await healCopy(site, backup, copy, target, usable, signers));
    if (!isHealed) stillMissing.add(copy.storage);
  }
}

/** The alert is about a storage, whatever kind of backup it misses. */
async function lacksOtherKinds(site: Site, storage: string, healed: HealedKind): Promise<boolean> {
  for (const kind of ["full", "config"] as const) {
    if (kind === healed) continue;
    const backups = await lastOf(site, kind);
    if (backups.some((backup) => missingIn(backup).some((copy) => copy.storage === storage))) return true;
  }
  return false;
}

const lastOf = (site: Site, kind: "full" | "config"): Promise<Backup[]> =>
  site.catalog.backups({ kind, status: ["completed", "verified"], limit: LOOK_BACK });

async function* newest(site: Site, kind: HealedKind): AsyncGenerator<Backup[]> {
  if (kind === "tenant") yield* lastOfEachTenant(site.catalog);
  else yield await lastOf(site, kind);
}

async function healCopy(
  site: Site,
  backup: Backup,
  copy: Copy,
  target: Storage,
  usable: Storage[],
  signers: string[],
): Promise<boolean> {
  const others = nearestFirst(usable.filter((storage) => storage !== target));
  try {
    await site.storage.claimSite(target, {
      site: site.config.site,
      createdAt: site.clock.now().toISOString(),
    });
    const place = { folder: copy.path, id: backup.id, tenantId: backup.tenantId };
    const { manifest, bytes } = await manifestToCopy(site, others, place, signers);
    const { body } = manifest;
    const own = { folder: copy.path, objects: body.objects };
    const older = await olderParts(site, backup, manifest, others, target, signers);
    for (const { folder, objects, manifest: olderBytes, id } of [
      ...older,
      { ...own, manifest: null, id: "" },
    ]) {
      await bringObjects(site, backup.label, { folder, objects, total: body.storedBytes }, others, target);
      if (olderBytes === null) continue;
      await putUnlessThere(site, target, manifestKey(folder), olderBytes);
      if (backup.kind !== "tenant") await recordStored(site, id, folder, target);
    }
    await putUnlessThere(site, target, manifestKey(copy.path), bytes);
    const [now] = await site.catalog.backups({ reference: backup.id, limit: 1 });
    const current = now ?? backup;
    await site.catalog.saveBackups([
      {
        ...current,
        copies: current.copies.map((entry) =>
          entry.storage === copy.storage
            ? { ...entry, status: "stored", bytes: manifest.body.storedBytes }
            : entry,
        ),
      },
    ]);
    site.report.info(`storage ${target.name} now has backup ${backup.label} too`);
    return true;
  } catch (error) {
    site.signal.throwIfAborted();
    site.report.warn(
      `storage ${copy.storage} could not be given its copy of ${backup.label}: ${reasonOf(error)}`,
    );
    return false;
  } finally {
    site.report.progressEnd();
  }
}

interface OlderPart {
  id: string;
  folder: string;
  objects: StoredObject[];
  manifest: Buffer;
}

/** The older backups that it builds on: whole, except for a tenant's, of which one object is needed. */
async function olderParts(
  site: Site,
  backup: Backup,
  { body }: Manifest,
  others: Storage[],
  target: Storage,
  signers: string[],
): Promise<OlderPart[]> {
  const parts: OlderPart[] = [];
  for (const { backupId, folder, objects } of body.needs ?? []) {
    await requireUndamaged(site, backupId, target.name);
    const place = { folder, id: backupId, tenantId: backup.tenantId };
    const { manifest, bytes } = await manifestToCopy(site, others, place, signers);
    const wanted = backup.kind === "tenant" ? objects : manifest.body.objects;
    parts.push({ id: backupId, folder, objects: wanted, manifest: bytes });
  }
  return parts;
}

/** What is there and wrong is replaced by whoever proves what is right. */
async function requireUndamaged(site: Site, id: string, storage: string): Promise<void> {
  const [record] = await site.catalog.backups({ reference: id, limit: 1 });
  if (record?.copies.some((copy) => copy.storage === storage && copy.status === "damaged"))
    throw new JBackupError("object_corrupt", `${record.label}, which it builds on, is damaged there`, {
      hint: "run jbackup verify --all --heal",
    });
}

async function putUnlessThere(site: Site, target: Storage, key: string, bytes: Buffer): Promise<void> {
  if ((await target.stat(key)) !== undefined) return;
  await target.put(key, site.storage.bytesBody([bytes]), { signal: site.signal });
}

async function bringObjects(
  site: Site,
  label: string,
  { folder, objects, total }: { folder: string; objects: StoredObject[]; total: number },
  others: Storage[],
  target: Storage,
): Promise<void> {
  let done = 0;
  for (const object of objects) {
    const key = `${folder}/${object.name}`;
    if ((await target.stat(key))?.bytes === object.bytes) continue;
    const content = await fetchVerified(others, key, object, site.storage.bytesBody, site.signal);
    await target.put(key, content, { signal: site.signal });
    done += object.bytes;
    const task = `copying ${label} to ${target.name}`;
    site.report.progress({ task, done, total: Math.max(total, done), unit: "bytes" });
  }
}

async function recordStored(site: Site, id: string, path: string, { name, kind }: Storage): Promise<void> {
  const [record] = await site.catalog.backups({ reference: id, limit: 1 });
  if (record === undefined) return;
  const copy: Copy = {
    storage: name,
    kind,
    status: "stored",
    path,
    bytes: record.storedBytes,
    verifiedAt: null,
  };
  const copies = [...record.copies.filter(({ storage }) => storage !== name), copy];
  await site.catalog.saveBackups([{ ...record, copies }]);
}
