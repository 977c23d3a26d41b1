import type { Backup, Copy } from "../../domain/backup.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { Manifest, ManifestBody, NeededBackup, StoredObject } from "../../domain/manifest.js";
import type { Storage } from "../../storage/storage.js";
import { eachBackup } from "../eachBackup.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";

/** A backup, as all storages together tell it. Of its manifest only what many thousands may keep in memory. */
export interface SurveyedBackup {
  id: string;
  folder: string;
  body: SurveyedBody;
  /** Of the manifest that is right. */
  digest: string;
  /** The keys that are right; null where copies differ and nothing here tells which ones are. */
  keys: RightKeys | null;
  record: SurveyedRecord | null;
  /** The storages that should hold it. */
  holders: string[];
}

export type RightKeys = Pick<Manifest, "keysAre" | "keysDigest">;

export type SurveyedBody = Pick<
  ManifestBody,
  | ("kind" | "method" | "tenantId" | "label" | "createdAt" | "finishedAt" | "parentId")
  | ("timeline" | "startLsn" | "storedBytes" | "objects")
> & {
  needs: NeededBackup[];
  systemId: string | null;
  endTime: string | null;
  walSegmentBytes: number | null;
};

/** What the catalog believes of a backup. */
export interface SurveyedRecord extends Pick<Backup, "id" | "tenantId" | "checksum"> {
  /** Where its copies are; the same in every storage. */
  paths: string[];
  copies: Pick<Copy, "storage" | "status">[];
}

/** A backup with its whole manifest, just read. */
export type Kept = Pick<SurveyedBackup, "id" | "folder" | "keys" | "record" | "holders"> & {
  manifest: Manifest;
};

type Once = <Text extends string | null>(text: Text) => Text;

/** What later steps ask of a manifest. */
export function surveyedBody(body: ManifestBody, once: Once = (text) => text): SurveyedBody {
  const kept = (objects: StoredObject[]): StoredObject[] =>
    objects.map(({ name, bytes, sha256 }) => ({ name: once(name), bytes, sha256 }));
  return {
    kind: body.kind,
    method: body.method,
    tenantId: body.tenantId,
    label: body.label,
    createdAt: body.createdAt,
    finishedAt: body.finishedAt,
    parentId: body.parentId,
    timeline: body.timeline,
    startLsn: once(body.startLsn),
    storedBytes: body.storedBytes,
    objects: kept(body.objects),
    needs: (body.needs ?? []).map((need) => ({ ...need, objects: kept(need.objects) })),
    systemId: once(body.server?.systemId ?? null),
    endTime: textOrNull(body.metadata.endTime),
    walSegmentBytes: numberOrNull(body.metadata.walSegmentBytes),
  };
}

/** Lets go of what is not needed later. What all backups have alike is kept once. */
export function keeping(): (backup: Kept) => SurveyedBackup {
  const texts = new Map<string | null, string | null>();
  const once: Once = (text) => {
    if (!texts.has(text)) texts.set(text, text);
    return texts.get(text) as typeof text;
  };
  const lists = new Map<string, string[]>();
  const listOnce = (list: string[]): string[] => {
    const key = list.join("/");
    const known = lists.get(key) ?? list;
    lists.set(key, known);
    return known;
  };
  return ({ id, folder, manifest: { body, digest }, keys, record, holders }) => ({
    id,
    folder,
    body: surveyedBody(body, once),
    digest,
    keys,
    record,
    holders: listOnce(holders),
  });
}

const textOrNull = (value: unknown): string | null =>
  value === undefined || value === null ? null : String(value);
const numberOrNull = (value: unknown): number | null =>
  value === undefined || value === null ? null : Number(value);

/** What the catalog believes to be there; without it the storages alone tell. */
export async function believedRecords(site: Site, only: string | null): Promise<Map<string, SurveyedRecord>> {
  const records = new Map<string, SurveyedRecord>();
  const usable: Backup["status"][] = ["completed", "verified"];
  const filter = { status: usable };
  try {
    const known =
      only === null
        ? eachBackup(site.catalog, filter)
        : await site.catalog.backups({ ...filter, reference: only });
    for await (const { kind, id, tenantId, checksum, copies } of known) {
      if (kind === "wal") continue;
      const paths = [...new Set(copies.map(({ path }) => path))];
      const held = copies.map(({ storage, status }) => ({ storage, status }));
      records.set(id, { id, tenantId, checksum, paths, copies: held });
    }
    return records;
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(
      `the catalog cannot be read (${error.message}); the storages are compared with each other only`,
    );
    return new Map();
  }
}

const hasKeys = (manifest: Manifest, { keysAre, keysDigest }: RightKeys): boolean =>
  manifest.keysAre === keysAre && manifest.keysDigest === keysDigest;

/** The whole manifest once more: the very one that was surveyed, from the first storage that has it. */
export async function wholeManifest(
  site: Site,
  { readable, signers }: { readable: Storage[]; signers: string[] },
  { id, folder, digest, keys, body }: SurveyedBackup,
): Promise<{ manifest: Manifest; bytes: Buffer }> {
  const { MANIFEST_MAX_BYTES: maxBytes, readManifest } = site.format;
  const expect = { site: site.config.site, backupId: id, tenantId: body.tenantId, folder, digest };
  let trouble: unknown;
  for (const storage of readable)
    try {
      const bytes = await site.storage.readAll(storage, manifestKey(folder), { maxBytes });
      const manifest = readManifest(bytes, { signers, expect });
      if (keys === null || hasKeys(manifest, keys)) return { bytes, manifest };
    } catch (error) {
      site.signal.throwIfAborted();
      if (!isJBackupError(error)) throw error;
      trouble = error; // what is wrong with that copy is a finding of the survey's
    }
  throw (
    trouble ??
    new JBackupError("storage_unavailable", `no storage can give the manifest of ${body.label} again`)
  );
}
