import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { removeTree } from "../../sys/heldFolder.js";
import { isWalElsewhere } from "./links.js";
import type { Places } from "./places.js";
import { isMark } from "./target.js";

/** What the backup does not have goes: PostgreSQL would take an old file of a relation for the new one's. */
export async function removeStrangers(places: Places, known: Set<string>): Promise<void> {
  await cleanFolder(places.directory, known, places);
  for (const place of places.tablespaces.values()) await cleanFolder(place, known, places);
}

async function cleanFolder(folder: string, known: Set<string>, places: Places): Promise<void> {
  const links = join(places.directory, "pg_tblspc");
  const control = join(places.directory, "global", "pg_control.jbackup");
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (folder === places.directory && (isMark(entry.name) || entry.name === "lost+found")) continue;
    if (path === control) continue;
    if (folder === links && places.tablespaces.has(entry.name)) continue;
    // a pg_wal on another disk stays, its content is cleaned
    const isElsewhere = await isWalElsewhere(path, places);
    if (!known.has(path)) await removeTree(path);
    else if (isElsewhere) await cleanFolder(places.walElsewhere ?? path, known, places);
    else if (entry.isDirectory()) await cleanFolder(path, known, places);
  }
}
