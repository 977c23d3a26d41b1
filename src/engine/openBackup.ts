import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Contents, Entry, Manifest, StoredObject } from "../domain/manifest.js";
import type { ObjectSource, OpenedEntry } from "../format/format.js";
import { raiseAlert } from "./alert.js";
import { type FoundBackup, findNeeded } from "./findBackup.js";
import { alertSpoiltKeys } from "./provedKeys.js";
import { readManifest } from "./readManifest.js";
import { fetchVerified } from "./replicate.js";
import type { Site } from "./site.js";
import { identities, trustedSigners } from "./siteKeys.js";

export interface OpenedBackup {
  contents: Contents;
  entry(name: string): Entry;
  /** The opened bytes of an entry, from whichever storage has good copies, object by object. */
  read(entry: Entry): AsyncIterable<Buffer>;
  /** Many of them in one pass, in the order of the contents: each object is fetched once, however many share it. */
  readAll(entries: Iterable<Entry>): AsyncIterable<OpenedEntry>;
}

/** Objects fetched before they are needed. */
const AHEAD = 2;

/** From whichever storage has keys that open it: those in one of them may have been spoilt, or one taken out. */
export async function openDataKey(site: Site, found: FoundBackup): Promise<Buffer> {
  const own = await identities(site);
  const open = ({ body, keys }: Manifest): Promise<Buffer> =>
    site.format.unwrapDataKey(keys, own, { backupId: body.backupId, commitment: body.keyCommitment });
  try {
    return await open(found.manifest);
  } catch (error) {
    if (own.length === 0 || !isKeyTrouble(error)) throw error;
    const dataKey = await openElsewhere(site, found, open);
    if (dataKey === null) throw error;
    return dataKey;
  }
}

const isKeyTrouble = (error: unknown): boolean => isJBackupError(error, "no_key", "manifest_invalid");

async function openElsewhere(
  site: Site,
  { manifest: { body, digest }, folder, storages }: FoundBackup,
  open: (manifest: Manifest) => Promise<Buffer>,
): Promise<Buffer | null> {
  const signers = await trustedSigners(site);
  const place = { folder, id: body.backupId, tenantId: body.tenantId, digest };
  const bad: string[] = [];
  for (const storage of storages)
    try {
      const { manifest } = await readManifest(site, [storage], place, signers);
      const dataKey = await open(manifest);
      for (const name of bad) await alertSpoiltKeys(site, body, name, storage.name);
      return dataKey;
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error;
      if (isKeyTrouble(error)) bad.push(storage.name);
    }
  return null; // the first trouble is the telling one
}

/** An unchanged tenant's backup has no objects of its own: an older one holds the same content. */
async function holderOf(site: Site, found: FoundBackup): Promise<FoundBackup> {
  const { objects, needs } = found.manifest.body;
  const [need] = needs ?? [];
  if (objects.length > 0 || need === undefined) return found;
  const holder = await findNeeded(site, found, need);
  if (sameObjects(holder.manifest.body.objects, need.objects)) return holder;
  throw new JBackupError(
    "manifest_invalid",
    `backup ${found.manifest.body.label} needs objects of backup ${need.backupId} that this one does not have`,
    { hint: "choose another backup from jbackup list" },
  );
}

const sameObjects = (there: StoredObject[], needed: StoredObject[]): boolean =>
  needed.every(({ name, bytes, sha256 }) =>
    there.some((object) => object.name === name && object.bytes === bytes && object.sha256 === sha256),
  );

/** Finds the key first: with a wrong one nothing else is touched. */
export async function openBackup(site: Site, wanted: FoundBackup): Promise<OpenedBackup> {
  const found = await holderOf(site, wanted);
  const { body } = found.manifest;
  const dataKey = await openDataKey(site, found);
  const context = { site: body.site, backupId: body.backupId, tenantId: body.tenantId };
  const objects = new Map(body.objects.map((object) => [object.name, object]));

  const factsOf = (name: string): StoredObject => {
    const facts = objects.get(name);
    if (facts) return facts;
    throw new JBackupError(
      "manifest_invalid",
      `backup ${body.label} refers to ${name}, which its manifest does not list`,
    );
  };
  const told = new Set<string>();
  const fetchObject = (name: string): Promise<ObjectSource> =>
    fetchVerified(
      found.storages,
      `${found.folder}/${name}`,
      factsOf(name),
      site.storage.bytesBody,
      site.signal,
      (storage, error) => alertBadCopy(site, storage.name, found, name, error, told),
    );

  const { contents, attached } = await site.format.openBundle(
    await fetchObject(site.format.CONTENTS_NAME),
    dataKey,
    context,
  );
  return {
    contents,
    entry: (name) => {
      const entry = contents.entries.find((candidate) => candidate.name === name);
      if (entry) return entry;
      throw new JBackupError("manifest_invalid", `backup ${body.label} has no ${name} in it`, {
        hint: "choose another backup from jbackup list",
      });
    },
    read: (entry) =>
      site.format.openEntry(entry, {
        ...context,
        dataKey,
        attached,
        source: ahead(
          entry.segments.map(({ object }) => object).filter((name) => name !== site.format.CONTENTS_NAME),
          fetchObject,
        ),
      }),
    readAll: (entries) =>
      site.format.openEntries(entries, { ...context, dataKey, attached, source: lastKept(fetchObject) }),
  };
}

/** Neighbouring entries lie in the same object. */
function lastKept(fetchObject: (name: string) => Promise<ObjectSource>) {
  let last: { name: string; source: Promise<ObjectSource> } | undefined;
  return (name: string): Promise<ObjectSource> => {
    if (last?.name !== name) last = { name, source: fetchObject(name) };
    return last.source;
  };
}

/** Answers objects in the order in which they will be asked for, with the next ones already on their way. */
function ahead(order: string[], fetchObject: (name: string) => Promise<ObjectSource>) {
  const coming: { name: string; source: Promise<ObjectSource> }[] = [];
  let next = 0;
  const fill = (): void => {
    for (; coming.length < AHEAD + 1 && next < order.length; next++) {
      const source = fetchObject(order[next] as string);
      source.catch(() => undefined); // told when its turn comes
      coming.push({ name: order[next] as string, source });
    }
  };
  return async (name: string): Promise<ObjectSource> => {
    fill();
    const first = coming.shift();
    if (first?.name !== name) throw new JBackupError("bug", `object ${name} was asked for out of order`);
    const source = await first.source;
    fill();
    return source;
  };
}

/** A copy that should be good and is not: said once, and raised as an alert. */
export async function alertBadCopy(
  site: Site,
  storage: string,
  found: FoundBackup,
  name: string,
  error: Error,
  told: Set<string>,
): Promise<void> {
  const key = `${storage}/${name}`;
  if (!found.holders.includes(storage)) return; // it was asked as a last resort only
  if (told.has(key)) return; // several entries may share an object
  told.add(key);
  const { backupId, label } = found.manifest.body;
  site.report.warn(`storage ${storage}: ${reasonOf(error)}; trying the next storage`);
  if (!isJBackupError(error, "object_corrupt", "object_truncated", "object_missing")) return;
  await raiseAlert(site, {
    type: "INTEGRITY_FAILURE",
    severity: "error",
    fingerprint: `bad_copy:${storage}:${backupId}`,
    message: `storage ${storage} has no good copy of ${name} of backup ${label}: ${reasonOf(error)}`,
    hint: "the other storages were used instead; look at this one with jbackup storages check",
    backupId,
    storage,
  });
}
