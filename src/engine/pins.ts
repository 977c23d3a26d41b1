import type { Pin } from "../domain/backup.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { Storage } from "../storage/storage.js";
import { actorOf, recordAudit } from "./audit.js";
import { findBackup } from "./findBackup.js";
import type { Site } from "./site.js";
import { storagesForReading } from "./useStorages.js";

/** A pin lies in the storages as well: a lost catalog must not let go of what somebody held on to. */
const FOLDER = "pins/";
const keyOf = (backupId: string): string => `${FOLDER}${backupId}.json`;
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
  const { backupId, label } = manifest.body;
  const { usable } = await storagesForReading(site);
  const held = (await pinsIn(site, usable)).get(backupId) ?? (await inCatalog(site)).get(backupId);
  if (held === undefined)
    throw new JBackupError("not_found", `backup ${label} is not pinned`, {
      hint: `jbackup show ${label} tells whether it is`,
    });
  const pin: Pin = { ...held, removedAt: site.clock.now().toISOString(), removedBy: actorOf(site) };
  await putEverywhere(site, pin);
  await site.catalog.savePin(pin);
  await recordAudit(site, "backup.unpin", backupId, { reason: held.reason });
  return pin;
}

async function putEverywhere(site: Site, pin: Pin): Promise<void> {
  const { usable } = await storagesForReading(site);
  const body = site.storage.bytesBody([Buffer.from(`${JSON.stringify(pin)}\n`)]);
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

/** A catalog that was lost knows of no pin until it is told again. */
export async function bringPinsBack(site: Site, storages: Storage[]): Promise<void> {
  const known = await inCatalog(site);
  for (const [id, pin] of await pinsIn(site, storages)) {
    const there = known.get(id);
    if (there === undefined || saidAt(pin) > saidAt(there)) await site.catalog.savePin(pin);
  }
}

/** Why each pinned backup is held, from catalog and storages together: either is enough, unless a later word took it off. */
export async function pinsOf(site: Site, storages: Storage[]): Promise<Map<string, string>> {
  const latest = new Map(await inCatalog(site));
  for (const [id, pin] of await pinsIn(site, storages)) {
    const known = latest.get(id);
    if (known === undefined || saidAt(pin) > saidAt(known)) latest.set(id, pin);
  }
  const now = site.clock.now().toISOString();
  return new Map(
    [...latest]
      .filter(([, { removedAt, until }]) => removedAt === null && (until === null || until > now))
      .map(([id, { reason }]) => [id, reason]),
  );
}

const saidAt = ({ removedAt, createdAt }: Pin): string => removedAt ?? createdAt;

async function inCatalog(site: Site): Promise<Map<string, Pin>> {
  try {
    const pins = await site.catalog.pins(site.clock.now().toISOString());
    return new Map(pins.map((pin) => [pin.backupId, pin]));
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return new Map(); // the storages know them too
    throw error;
  }
}

async function pinsIn(site: Site, storages: Storage[]): Promise<Map<string, Pin>> {
  const pins = new Map<string, Pin>();
  for (const storage of storages)
    for await (const { key } of storage.list(FOLDER)) {
      const pin = parsePin(
        (await site.storage.readAll(storage, key, { maxBytes: PIN_MAX_BYTES })).toString("utf8"),
        storage.name,
        key,
      );
      const known = pins.get(pin.backupId);
      if (known === undefined || saidAt(pin) > saidAt(known)) pins.set(pin.backupId, pin);
    }
  return pins;
}

/** One that cannot be read stops the cleanup: it would be taken for none. */
function parsePin(text: string, storage: string, key: string): Pin {
  try {
    const pin = JSON.parse(text) as Pin;
    if (typeof pin.backupId === "string" && typeof pin.createdAt === "string") return pin;
  } catch {
    // told below
  }
  throw new JBackupError("object_corrupt", `the pin ${key} in storage ${storage} cannot be read`, {
    hint: "pin the backup again with jbackup pin, which replaces it",
  });
}
