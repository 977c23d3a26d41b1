import { createHash } from "node:crypto";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Storage } from "../storage/storage.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { readMark, writeMark } from "./mark.js";
import type { Site } from "./site.js";

/** The marker itself says that this is none of our storages. */
export const isForeign = (error: unknown): error is JBackupError =>
  isJBackupError(error, "repository_foreign", "version_mismatch");

export function checkMarker(site: Site, storage: Storage, marker: { site: string } | undefined): void {
  if (marker === undefined || marker.site === site.config.site) return;
  throw new JBackupError(
    "repository_foreign",
    `storage ${storage.name} at ${storage.location} belongs to site ${marker.site}, not to ${site.config.site}`,
    { hint: "give this site a bucket, prefix or folder of its own in jbackup.yaml" },
  );
}

const markName = ({ name }: Storage): string =>
  `storage-${createHash("sha256").update(name).digest("hex").slice(0, 16)}`;

/** So that this host knows the place again when it comes up empty. */
export async function rememberPlace(site: Site, storage: Storage): Promise<void> {
  if ((await readMark(site, markName(storage))) !== storage.location)
    await writeMark(site, markName(storage), storage.location);
}

/** Without a marker it is a new storage, or one whose disk is not mounted. A place that this host never used is new. */
export async function requireNew(site: Site, storage: Storage): Promise<void> {
  if ((await readMark(site, markName(storage))) !== storage.location) return;
  if (!(await hasKnownCopies(site, storage.name))) return;
  const state = await stateOf(storage);
  if (state === "filled") return; // the marker alone was lost, and is written again
  const fill = "jbackup verify --all --heal";
  const refill = state === "empty" ? fill : `make ${storage.location}, then ${fill}`;
  throw new JBackupError(
    "storage_unavailable",
    `storage ${storage.name} is ${state}, and the catalog knows of copies in it: another bucket, or a disk that is not mounted?`,
    {
      hint: `mount it, or correct storages in jbackup.yaml; if it is to be filled anew: ${refill}`,
      details: { isEmptied: true },
    },
  );
}

/** Nothing was taken out of a storage that has neither its marker nor any backup: it is another place, or it is not there. Null where it is filled. */
export async function whyEmptied(site: Site, storage: Storage): Promise<JBackupError | null> {
  try {
    if ((await site.storage.readSite(storage)) !== undefined) return null;
    const state = await stateOf(storage);
    if (state === "filled") return null;
    return new JBackupError(
      "storage_unavailable",
      `storage ${storage.name} at ${storage.location} is ${state}: another place, or a disk that is not mounted?`,
      { hint: "mount it, or correct storages in jbackup.yaml; jbackup storages check shows what is there" },
    );
  } catch (error) {
    site.signal.throwIfAborted();
    if (error instanceof JBackupError) return error; // then it is not known what is in it
    throw error;
  }
}

async function stateOf(storage: Storage): Promise<"filled" | "empty" | "gone"> {
  try {
    for await (const _ of storage.list("backups/")) return "filled";
    return "empty";
  } catch (error) {
    if (isJBackupError(error, "not_found")) return "gone"; // its directory itself
    throw error;
  }
}

/** For each kind by itself: one run may back up thousands of tenants. */
async function hasKnownCopies(site: Site, name: string): Promise<boolean> {
  try {
    for (const kind of ["full", "config", "tenant"] as const) {
      const known = await site.catalog.backups({ kind, status: ["completed", "verified"], limit: 20 });
      if (
        known.some(({ copies }) => copies.some((copy) => copy.storage === name && copy.status === "stored"))
      )
        return true;
    }
    return false;
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return false; // a catalog that is down stops no backup
    throw error;
  }
}

const foreignFingerprint = (storage: string): string => `marker:${storage}`;

/** Whoever can write there may have done it to keep the backups from being read. */
export const alertForeign = (site: Site, storage: string, error: Error): Promise<unknown> =>
  raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: foreignFingerprint(storage),
    message: `storage ${storage} does not say that it is the site's: ${reasonOf(error)}`,
    hint: `find out who can write to storage ${storage}, and compare its jbackup-site.json with another storage's; the others are used meanwhile`,
    storage,
  });

/** Storages that took what was to be stored said before that they are the site's. */
export async function resolveForeign(site: Site, storages: string[]): Promise<void> {
  for (const name of storages)
    await resolveAlert(site, foreignFingerprint(name), `storage ${name} says that it is the site's`);
}
