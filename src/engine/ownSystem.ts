import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../domain/errors.js";
import { writeFileAtomic } from "../sys/atomicFile.js";
import { raiseAlert } from "./alert.js";
import type { Site } from "./site.js";

const path = (site: Site): string => join(site.config.home, `${site.config.site}.system.json`);

/** The identifier of the cluster that this site protects, as far as this host has seen it. */
export async function knownSystem(site: Site): Promise<string | null> {
  try {
    return (JSON.parse(await readFile(path(site), "utf8")) as { systemId: string }).systemId;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** The first cluster that comes is the site's; any other is refused, for its WAL and files would mix with the first one's. */
export async function requireOwnSystem(site: Site, systemId: string): Promise<void> {
  const known = await knownSystem(site);
  if (known === systemId) return;
  if (known === null) {
    await writeFileAtomic(path(site), `${JSON.stringify({ systemId })}\n`, { overwrite: true });
    return;
  }
  const message = `this is cluster ${systemId}, and site ${site.config.site} protects cluster ${known}`;
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: `foreign_system:${systemId}`,
    message,
    hint: "give it a site of its own in jbackup.yaml",
  });
  throw new JBackupError("target_refused", message, {
    hint: `give it a site of its own in jbackup.yaml, or, after an upgrade or a new initdb, remove ${path(site)}`,
  });
}
