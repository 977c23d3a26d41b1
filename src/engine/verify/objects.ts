import { createHash } from "node:crypto";
import { JBackupError } from "../../domain/errors.js";
import type { StoredObject } from "../../domain/manifest.js";
import type { Storage } from "../../storage/storage.js";
import { openDataKey } from "../openBackup.js";
import { nothingNewer } from "../passedOver.js";
import type { Site } from "../site.js";
import { type Problem, problemOf } from "./problem.js";
import type { Survey } from "./survey.js";
import { type SurveyedBackup, wholeManifest } from "./surveyed.js";

export interface ObjectsWish {
  level: "stored" | "sealed" | "content";
  isWanted(key: string): boolean;
}

export interface CheckedObjects {
  objects: number;
  bytes: number;
  problems: Problem[];
  /** What was read of a backup in a storage, by both. */
  checked: ReadonlyMap<string, CheckedCopy>;
}

export interface CheckedCopy {
  objects: number;
  bytes: number;
}

export const copyOf = (backupId: string, storage: string): string => `${backupId} ${storage}`;

interface Wanted {
  backup: SurveyedBackup;
  storage: Storage;
  key: string;
  facts: StoredObject;
}

/** Objects that are read at one time in each storage. */
const AT_A_TIME = 2;

/** Reads every object of every copy: there, of the right size, of the right SHA-256, and on the higher levels opened. */
export async function checkObjects(site: Site, survey: Survey, wish: ObjectsWish): Promise<CheckedObjects> {
  const wanted = wantedObjects(survey).filter(({ key }) => wish.isWanted(key));
  const total = wanted.reduce((sum, { facts }) => sum + facts.bytes, 0);
  const keys = wish.level === "stored" ? null : keysOf(site, survey);
  const problems: Problem[] = [];
  const copies = new Map<string, CheckedCopy>();
  let bytes = 0;
  const check = async (one: Wanted): Promise<void> => {
    const { backup, storage, facts, key } = one;
    const where = {
      backupId: backup.id,
      storage: storage.name,
      path: key,
      sha256: facts.sha256,
      bytes: facts.bytes,
    };
    const copyKey = copyOf(backup.id, storage.name);
    const copy = copies.get(copyKey) ?? { objects: 0, bytes: 0 };
    copies.set(copyKey, copy);
    try {
      if (!survey.listed.get(storage.name)?.has(key)) throw new JBackupError("object_missing", key);
      await twice(site, () => readObject(site, one, keys));
      copy.objects++;
      copy.bytes += facts.bytes;
    } catch (error) {
      site.signal.throwIfAborted();
      problems.push(problemOf(error, where));
    }
    bytes += facts.bytes;
    site.report.progress({ task: "reading copies", done: bytes, total, unit: "bytes" });
  };
  await Promise.all(
    survey.storages.map(async (storage) => {
      const here = wanted.filter((one) => one.storage === storage)[Symbol.iterator]();
      const worker = async (): Promise<void> => {
        for (const one of here) {
          site.signal.throwIfAborted();
          await check(one);
        }
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, worker));
    }),
  );
  site.report.progressEnd();
  return { objects: wanted.length, bytes, problems, checked: copies };
}

/** Each object once in each storage that should hold it, whoever refers to it. */
function wantedObjects({ storages, backups }: Survey): Wanted[] {
  const known = new Map(backups.map((backup) => [backup.id, backup]));
  return storages.flatMap((storage) => {
    const seen = new Map<string, Wanted>();
    for (const backup of backups) {
      if (!backup.holders.includes(storage.name)) continue;
      const { body } = backup;
      for (const facts of body.objects) {
        const key = `${backup.folder}/${facts.name}`;
        seen.set(key, { backup, storage, key, facts });
      }
      for (const { backupId, folder, objects } of body.needs)
        for (const facts of objects) {
          const key = `${folder}/${facts.name}`;
          if (!seen.has(key)) seen.set(key, { backup: known.get(backupId) ?? backup, storage, key, facts });
        }
    }
    return [...seen.values()];
  });
}

/** Before damage is claimed the object is read once more: what came wrong once may have been the way, not the copy. */
async function twice(site: Site, read: () => Promise<void>): Promise<void> {
  try {
    await read();
  } catch {
    site.signal.throwIfAborted();
    await read();
  }
}

type KeyOf = (backup: SurveyedBackup) => Promise<Uint8Array>;

function keysOf(site: Site, survey: Survey): KeyOf {
  const keys = new Map<string, Promise<Uint8Array>>();
  const open = async (backup: SurveyedBackup): Promise<Uint8Array> => {
    const { folder, holders } = backup;
    const { manifest } = await wholeManifest(site, survey, backup);
    return openDataKey(site, { manifest, folder, storages: survey.readable, holders, ...nothingNewer });
  };
  return (backup) => {
    const known = keys.get(backup.id);
    if (known) return known;
    const key = open(backup);
    keys.set(backup.id, key);
    return key;
  };
}

async function readObject(
  site: Site,
  { backup, storage, key, facts }: Wanted,
  keyOf: KeyOf | null,
): Promise<void> {
  const hash = createHash("sha256");
  let bytes = 0;
  const kept: Uint8Array[] = [];
  for await (const chunk of storage.get(key, { signal: site.signal })) {
    bytes += chunk.length;
    if (bytes > facts.bytes) break;
    hash.update(chunk);
    if (keyOf !== null) kept.push(chunk);
  }
  if (bytes !== facts.bytes)
    throw new JBackupError(
      "object_truncated",
      `has ${bytes > facts.bytes ? `more than the ${facts.bytes} bytes` : `${bytes} bytes instead of the ${facts.bytes}`} in the manifest`,
    );
  if (hash.digest("hex") !== facts.sha256)
    throw new JBackupError("object_corrupt", "is damaged: its SHA-256 is not the one in the manifest");
  if (keyOf === null) return;
  const context = { site: site.config.site, backupId: backup.id, tenantId: backup.body.tenantId };
  const sealed =
    facts.name === site.format.CONTENTS_NAME
      ? site.format.contentsContext(context)
      : site.format.packContext(context, facts.name);
  await site.format.verifySealed(site.storage.bytesBody(kept), await keyOf(backup), sealed);
}
