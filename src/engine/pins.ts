import type { Alert, Pin } from "../domain/backup.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import { type JudgedPins, judgePins, type PinTrouble, type StoredPin } from "../domain/pins.js";
import type { Secret } from "../domain/secret.js";
import type { Storage } from "../storage/storage.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { actorOf, recordAudit } from "./audit.js";
import { findBackup } from "./findBackup.js";
import { pinBytes, readPin } from "./pinFile.js";
import type { Site } from "./site.js";
import { sealingKeys, trustedSigners } from "./siteKeys.js";
import { storagesForReading } from "./useStorages.js";

/** A pin lies in the storages as well: a lost catalog must not let go of what somebody held on to. */
const FOLDER = "pins/";
const keyOf = (backupId: string): string => `${FOLDER}${backupId}.json`;
const idIn = (key: string): string | undefined => /^pins\/([^/]+)\.json$/.exec(key)?.[1];
const PIN_MAX_BYTES = 65_536;

export async function pinBackup(
  site: Site,
  reference: string,
  { reason, until }: { reason: string; until: string | null },
): Promise<Pin> {
  const { manifest } = await findBackup(site, reference);
  const createdAt = site.clock.now().toISOString();
  const backupId = manifest.body.backupId;
  const pin: Pin = {
    id: backupId,
    backupId,
    reason,
    until,
    createdAt,
    createdBy: actorOf(site),
    removedAt: null,
    removedBy: null,
  };
  await putEverywhere(site, pin);
  await site.catalog.savePin(pin);
  await recordAudit(site, "backup.pin", backupId, { reason, until });
  return pin;
}

export async function unpinBackup(site: Site, reference: string): Promise<Pin> {
  const { manifest } = await findBackup(site, reference);
  const { backupId, label, createdAt } = manifest.body;
  const { usable } = await storagesForReading(site);
  const { held, words } = await judged(site, usable);
  const reason = held.get(backupId);
  if (reason === undefined)
    throw new JBackupError("not_found", `backup ${label} is not pinned`, {
      hint: `jbackup show ${label} tells whether it is`,
    });
  // where its pin cannot be read nobody knows any more who made it, nor when
  const unknown = { id: backupId, backupId, reason, until: null, createdAt, createdBy: "unknown" };
  const word = words.get(backupId) ?? unknown;
  const pin: Pin = { ...word, removedAt: site.clock.now().toISOString(), removedBy: actorOf(site) };
  await putEverywhere(site, pin);
  await site.catalog.savePin(pin);
  await recordAudit(site, "backup.unpin", backupId, { reason });
  return pin;
}

async function putEverywhere(site: Site, pin: Pin): Promise<void> {
  const { usable } = await storagesForReading(site);
  const body = site.storage.bytesBody([pinBytes(site, pin, await signingOf(site))]);
  const refusals: unknown[] = [];
  for (const storage of usable)
    try {
      await storage.put(keyOf(pin.backupId), body, { replace: true, signal: site.signal });
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error;
      refusals.push(error);
      site.report.warn(`storage ${storage.name} does not know of it: ${error.message}`);
    }
  if (refusals.length === usable.length) throw refusals[0];
}

/** Where a host may not sign, its own catalog is what vouches for the pin. */
async function signingOf(site: Site): Promise<Secret | null> {
  const { keys } = site.config;
  return keys.generatedIn === null && keys.signing === null ? null : (await sealingKeys(site)).signing;
}

/** A catalog that was lost knows of no pin until it is told again. */
export async function bringPinsBack(site: Site, storages: Storage[]): Promise<void> {
  const known = new Map((await inCatalog(site)).map((pin) => [pin.backupId, pin]));
  const { words } = await judged(site, storages);
  for (const [id, pin] of words) {
    const there = known.get(id);
    if (there?.createdAt !== pin.createdAt || there.removedAt !== pin.removedAt)
      await site.catalog.savePin(pin);
  }
}

/** Why each pinned backup is held, from catalog and storages together. What cannot be believed is said, and does not stop anybody. */
export async function pinsOf(site: Site, storages: Storage[]): Promise<Map<string, string>> {
  const { held, troubles } = await judged(site, storages);
  for (const trouble of troubles) await alertPin(site, trouble);
  await resolvePins(site, storages, troubles);
  return held;
}

async function judged(site: Site, storages: Storage[]): Promise<JudgedPins> {
  return judgePins(await inCatalog(site), await pinsIn(site, storages), site.clock.now());
}

async function inCatalog(site: Site): Promise<Pin[]> {
  try {
    return await site.catalog.pins(null);
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return []; // the storages know them too
    throw error;
  }
}

async function pinsIn(site: Site, storages: Storage[]): Promise<StoredPin[]> {
  const pins: StoredPin[] = [];
  let signers: string[] | undefined;
  for (const storage of storages)
    for await (const { key } of storage.list(FOLDER)) {
      const backupId = idIn(key);
      if (backupId === undefined) continue; // none of ours
      signers ??= await trustedSigners(site);
      const read = await readOne(site, storage, key, signers);
      const isItsOwn = read.pin?.backupId === backupId;
      pins.push({ ...read, pin: isItsOwn ? read.pin : null, storage: storage.name, backupId });
    }
  return pins;
}

async function readOne(
  site: Site,
  storage: Storage,
  key: string,
  signers: string[],
): Promise<Pick<StoredPin, "pin" | "trust">> {
  try {
    return readPin(site, await site.storage.readAll(storage, key, { maxBytes: PIN_MAX_BYTES }), signers);
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError)) throw error;
    return { pin: null, trust: "unsigned" }; // then it holds, as it may be one
  }
}

const fingerprintOf = ({ storage, backupId }: PinTrouble): string => `pin:${storage}:${backupId}`;

async function alertPin(site: Site, trouble: PinTrouble): Promise<void> {
  const { storage, backupId, problem, isTampering } = trouble;
  const message = `the pin of backup ${backupId} in storage ${storage} ${problem}`;
  site.report.warn(`${message}; the backup is held`);
  await raiseAlert(site, {
    type: isTampering ? "SECURITY" : "INTEGRITY_FAILURE",
    severity: isTampering ? "critical" : "error",
    fingerprint: fingerprintOf(trouble),
    message,
    hint: `find out who can write to storage ${storage}, then write it anew: jbackup pin or jbackup unpin ${backupId}`,
    backupId,
    storage,
  });
}

async function resolvePins(site: Site, storages: Storage[], troubles: PinTrouble[]): Promise<void> {
  const still = new Set(troubles.map(fingerprintOf));
  for (const { fingerprint, storage } of await openPinAlerts(site))
    if (!still.has(fingerprint) && storages.some(({ name }) => name === storage))
      await resolveAlert(site, fingerprint, "the pin there was read again and is right");
}

async function openPinAlerts(site: Site): Promise<Alert[]> {
  try {
    const open = await site.catalog.alerts({ status: ["active", "acknowledged"] });
    return open.filter(({ fingerprint }) => fingerprint.startsWith("pin:"));
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return []; // raised again when it is back
    throw error;
  }
}
