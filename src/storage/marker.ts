import { isJBackupError, JBackupError } from "../domain/errors.js";
import { bytesBody, readAll } from "./body.js";
import type { Storage } from "./storage.js";

export const SITE_MARKER = "jbackup-site.json";
const MARKER_BYTES = 64 * 1024;
const FORMAT = 1;

/** Says whose backups stand here. Public: it holds no secret and is not sealed. */
export interface SiteMarker {
  format: 1;
  site: string;
  createdAt: string;
  /** The PostgreSQL cluster that the site protected when the storage was first used. */
  systemId: string | null;
}

export interface SiteClaim {
  site: string;
  createdAt: string;
  systemId?: string | null;
}

/** The marker, or undefined when the storage surely has none. One that cannot be understood is an error. */
export async function readSite(storage: Storage): Promise<SiteMarker | undefined> {
  try {
    return parseMarker(storage, await readAll(storage, SITE_MARKER, { maxBytes: MARKER_BYTES }));
  } catch (error) {
    if (isJBackupError(error, "object_missing")) return undefined;
    throw error;
  }
}

/**
 * Makes the storage the site's, or finds that it is already. Nothing is written when it belongs to another site.
 * Two sites that claim an empty storage at the same moment: the marker is write-once, so one of them is refused.
 */
export async function claimSite(storage: Storage, claim: SiteClaim): Promise<SiteMarker> {
  const found = await readSite(storage);
  if (found !== undefined) return agreed(storage, found, claim.site);
  const marker: SiteMarker = {
    format: FORMAT,
    site: claim.site,
    createdAt: claim.createdAt,
    systemId: claim.systemId ?? null,
  };
  try {
    await storage.put(SITE_MARKER, bytesBody([Buffer.from(`${JSON.stringify(marker, null, 2)}\n`)]));
    return marker;
  } catch (error) {
    if (!isJBackupError(error, "object_exists")) throw error;
    return requireSite(storage, claim.site);
  }
}

/** For whatever reads or removes: a storage without marker may be a wrong bucket or an unmounted disk, not an empty one. */
export async function requireSite(storage: Storage, site: string): Promise<SiteMarker> {
  const found = await readSite(storage);
  if (found !== undefined) return agreed(storage, found, site);
  throw new JBackupError(
    "not_found",
    `storage ${storage.name} holds no backups: ${storage.location} has no ${SITE_MARKER}`,
    {
      hint: "Check where this storage points to in jbackup.yaml; the first backup marks a new storage as the site's.",
      details: { storage: storage.name },
    },
  );
}

function agreed(storage: Storage, marker: SiteMarker, site: string): SiteMarker {
  if (marker.site === site) return marker;
  throw new JBackupError(
    "repository_foreign",
    `storage ${storage.name} at ${storage.location} belongs to site ${marker.site}, not to ${site}`,
    {
      hint: "Give each site its own bucket, prefix or directory in jbackup.yaml; nothing was written.",
      details: { storage: storage.name, site: marker.site },
    },
  );
}

function parseMarker(storage: Storage, content: Buffer): SiteMarker {
  const raw = parsedOrUndefined(content) as Partial<Record<keyof SiteMarker, unknown>> | null | undefined;
  if (typeof raw?.format === "number" && raw.format > FORMAT)
    throw new JBackupError(
      "version_mismatch",
      `storage ${storage.name} was written by a newer jbackup (format ${raw.format})`,
      {
        hint: "Install the newer jbackup on this host.",
        details: { storage: storage.name, format: raw.format },
      },
    );
  if (raw?.format !== FORMAT || typeof raw.site !== "string" || typeof raw.createdAt !== "string")
    throw new JBackupError("object_corrupt", `storage ${storage.name}: ${SITE_MARKER} is not readable`, {
      hint: `Look at ${SITE_MARKER} in ${storage.location}; compare it with that of another storage of this site.`,
      details: { storage: storage.name },
    });
  const systemId = typeof raw.systemId === "string" ? raw.systemId : null;
  return { format: FORMAT, site: raw.site, createdAt: raw.createdAt, systemId };
}

const parsedOrUndefined = (content: Buffer): unknown => {
  try {
    return JSON.parse(content.toString("utf8"));
  } catch {
    return undefined;
  }
};
