import { lstat, readdir, rmdir } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { StorageDraft } from "../../domain/siteDraft.js";
import type { Storage } from "../../storage/storage.js";
import type { SetUpParts } from "./parts.js";

export interface TriedStorage {
  location: string;
  checks: number;
  /** In the storage's own words; empty when all is well. */
  problems: string[];
}

/** Runs the storage contract on a storage that nobody uses yet, and leaves it as it was found. One that holds backups is refused: a new site has new keys. */
export async function tryStorage(
  parts: SetUpParts,
  draft: StorageDraft,
  site: string,
): Promise<TriedStorage> {
  if (draft.kind === "local" && !isAbsolute(draft.path))
    throw new JBackupError("usage", `storage ${draft.name} needs its whole path, not ${draft.path}`, {
      hint: "begin it with a slash, such as /var/backups/shop",
    });
  const missing = draft.kind === "local" ? await missingFolders(draft.path) : [];
  const storage = await parts.openStorage(draft);
  try {
    const marker = missing.length > 0 ? undefined : await parts.storage.readSite(storage);
    if (marker !== undefined && marker.site !== site)
      throw new JBackupError("repository_foreign", `${storage.location} belongs to site ${marker.site}`, {
        hint: `give ${draft.name} another ${draft.kind === "local" ? "folder" : "bucket or prefix"}: each site has its own`,
      });
    if (missing.length === 0 && (await holdsBackups(storage)))
      throw new JBackupError(
        "target_refused",
        `${storage.location} holds backups${marker === undefined ? "" : ` of site ${site}`} already, made under other keys`,
        {
          hint: `to go on with that site, bring back its jbackup.yaml and its keys (jbackup dr run server-lost tells how); to begin anew, give ${draft.name} another ${draft.kind === "local" ? "folder" : "bucket or prefix"}`,
        },
      );
    const { checks } = await parts.storage.checkStorage(storage, parts.clock);
    const problems = checks.flatMap(({ name, error }) => (error === undefined ? [] : [`${name}: ${error}`]));
    return { location: storage.location, checks: checks.length, problems };
  } finally {
    await storage.close();
    if (draft.kind === "local") await removeEmpty(join(draft.path, "jbackup-check"), missing);
  }
}

async function holdsBackups(storage: Storage): Promise<boolean> {
  for (const folder of ["backups/", "wal/"]) for await (const _ of storage.list(folder)) return true;
  return false;
}

/** Folders that hold something, or were never made, stay as they are. */
async function removeEmpty(tried: string, made: string[]): Promise<void> {
  const below = await readdir(tried, { recursive: true }).catch(() => []);
  const deepestFirst = below.map((name) => join(tried, name)).sort((a, b) => b.length - a.length);
  for (const folder of [...deepestFirst, tried, ...made]) await rmdir(folder).catch(() => undefined);
}

/** The folders that using this path would make, the innermost first. */
async function missingFolders(path: string): Promise<string[]> {
  const isThere = await lstat(path).then(
    () => true,
    () => false,
  );
  return isThere || dirname(path) === path ? [] : [path, ...(await missingFolders(dirname(path)))];
}
