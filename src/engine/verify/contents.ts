import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { Extent } from "../../domain/fileMap.js";
import type { Entry } from "../../domain/manifest.js";
import type { DumpFacts } from "../../postgres/postgres.js";
import { DUMP_NAME } from "../backup/dumpFacts.js";
import { isPhysical } from "../bases.js";
import { type OpenedChain, openChain } from "../files/chain.js";
import type { FoundBackup } from "../findBackup.js";
import { type OpenedBackup, openBackup } from "../openBackup.js";
import { nothingNewer } from "../passedOver.js";
import type { Site } from "../site.js";
import { type Problem, problemOf } from "./problem.js";
import type { Survey } from "./survey.js";
import { wholeManifest } from "./surveyed.js";

/** What the copies hold makes sense: entries have their digests, and every block that a map names is there. */
export async function checkContents(site: Site, survey: Survey, known: Problem[]): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const backup of survey.backups) {
    site.signal.throwIfAborted();
    // only copies that are whole are asked: what is wrong with the others was said already
    const bad = new Set(known.filter(({ backupId }) => backupId === backup.id).map(({ storage }) => storage));
    const storages = survey.storages.filter(({ name }) => backup.holders.includes(name) && !bad.has(name));
    const [nearest] = storages;
    if (nearest === undefined) continue;
    const { folder, holders } = backup;
    const where = { backupId: backup.id, storage: nearest.name, path: folder, sha256: null, bytes: null };
    try {
      const { manifest } = await wholeManifest(site, survey, backup);
      await checkOne(site, { manifest, folder, storages, holders, ...nothingNewer });
    } catch (error) {
      site.signal.throwIfAborted();
      problems.push(problemOf(error, where));
    }
  }
  return problems;
}

async function checkOne(site: Site, found: FoundBackup): Promise<void> {
  const { body } = found.manifest;
  if (isPhysical(body)) return checkMap(await openChain(site, found));
  const backup = await openBackup(site, found);
  // what is attached to the list of a small backup is no pack, and is read by itself
  if (body.kind === "config") {
    for await (const { content } of backup.readAll(backup.contents.entries)) for await (const _ of content);
    return;
  }
  for (const entry of backup.contents.entries)
    if (entry.name === DUMP_NAME) await checkDump(site, backup, entry);
    else for await (const _ of backup.read(entry));
}

/** The digest of what was stored says that it is what pg_dump wrote; only pg_restore can tell whether pg_dump wrote it all. */
async function checkDump(site: Site, backup: OpenedBackup, entry: Entry): Promise<void> {
  const { clientMajor } = backup.contents.detail.logical as DumpFacts;
  const { readDumpThrough } = await site.clusters();
  const settings = {
    environment: { path: site.environment.path, home: site.environment.home },
    binDirectory: site.config.database.binDirectory,
    signal: site.signal,
  };
  try {
    await readDumpThrough(backup.read(entry), clientMajor, settings);
  } catch (error) {
    if (isJBackupError(error, "environment", "version_mismatch")) {
      site.report.warn(`the dump is only read, not understood: ${error.message}`);
      for await (const _ of backup.read(entry));
      return;
    }
    if (!isJBackupError(error, "tool_failed")) throw error;
    throw new JBackupError("object_corrupt", `the dump in it is not whole: ${error.message}`, {
      cause: error,
    });
  }
}

/** Files are covered from their first to their last byte, by packs that some manifest lists. */
async function checkMap(chain: OpenedChain): Promise<void> {
  let files = 0;
  let bytes = 0;
  for await (const { record } of chain.map()) {
    if (record.kind === "dir") continue;
    files++;
    bytes += record.size;
    const covered = record.at.reduce((sum, extent) => sum + requirePack(chain, record.path, extent), 0);
    if (covered !== record.size)
      throw damaged(chain, `${record.path} has ${record.size} bytes, and blocks for ${covered}`);
  }
  if (files !== chain.facts.files || bytes !== chain.facts.bytes)
    throw damaged(
      chain,
      `lists ${files} files with ${bytes} bytes instead of ${chain.facts.files} with ${chain.facts.bytes}`,
    );
}

function requirePack(chain: OpenedChain, path: string, [source, pack, , bytes]: Extent): number {
  const name = `data/${String(pack).padStart(6, "0")}.jbk`;
  if (chain.sources[source]?.objects.has(name)) return bytes;
  throw damaged(chain, `${path} refers to ${name} of source ${source}, which no manifest lists`);
}

const damaged = ({ label }: OpenedChain, what: string): JBackupError =>
  new JBackupError("object_corrupt", `the file map of ${label} ${what}`);
