import type { Census } from "../../domain/census.js";
import { JBackupError } from "../../domain/errors.js";
import type { StoredObject } from "../../domain/manifest.js";
import type { PhysicalFacts } from "../../domain/physical.js";
import type { BackupContext, MapEntry } from "../../format/format.js";
import { type FoundBackup, findNeeded } from "../findBackup.js";
import { openBackup, openDataKey } from "../openBackup.js";
import type { Site } from "../site.js";

/** One backup whose packs are read: the one to restore, or an older one that it builds on. */
export interface PackSource {
  found: FoundBackup;
  dataKey: Uint8Array;
  context: BackupContext;
  objects: Map<string, StoredObject>;
}

export interface OpenedChain {
  label: string;
  facts: PhysicalFacts;
  /** What the server said of its databases and tables; backups of early versions do not tell. */
  census: Census | null;
  fingerprintKey: Buffer;
  /** Source 0 is the backup itself, the others are in the order of facts.sources. */
  sources: PackSource[];
  map(): AsyncGenerator<MapEntry>;
  /** The map as it is stored. */
  rawMap(): AsyncIterable<Buffer>;
}

/** A physical backup and every older one whose blocks it refers to, each with its key. */
export async function openChain(site: Site, found: FoundBackup): Promise<OpenedChain> {
  const backup = await openBackup(site, found);
  const facts = backup.contents.detail.physical as PhysicalFacts;
  const { body } = found.manifest;
  const sources = [await sourceOf(site, found, body.objects)];
  for (const id of facts.sources) {
    const need = body.needs?.find(({ backupId }) => backupId === id);
    if (need === undefined)
      throw new JBackupError(
        "manifest_invalid",
        `backup ${body.label} builds on backup ${id}, which its manifest does not name`,
      );
    const older = await findNeeded(site, found, need);
    sources.push(await sourceOf(site, older, need.objects));
  }
  const rawMap = (): AsyncIterable<Buffer> => backup.read(backup.entry(site.format.MAP_ENTRY));
  return {
    label: body.label,
    facts,
    census: (backup.contents.detail.census as Census | undefined) ?? null,
    fingerprintKey: Buffer.from(facts.fingerprintKey, "base64"),
    sources,
    map: () => site.format.readMap(rawMap()),
    rawMap,
  };
}

async function sourceOf(site: Site, found: FoundBackup, objects: StoredObject[]): Promise<PackSource> {
  const { site: name, backupId, tenantId } = found.manifest.body;
  return {
    found,
    dataKey: await openDataKey(site, found),
    context: { site: name, backupId, tenantId },
    objects: new Map(objects.map((object) => [object.name, object])),
  };
}
