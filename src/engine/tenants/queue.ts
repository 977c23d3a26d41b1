import { createHash } from "node:crypto";
import { isJBackupError } from "../../domain/errors.js";
import type { TenantRestoreRequest } from "../restoreTenant.js";
import type { Site } from "../site.js";
import type { TenantOrigin } from "./origins.js";

/** The same tenants from the same backups in the same way: a run that was broken off is gone on with by giving the same command again. */
export function queueOf(request: TenantRestoreRequest, origins: TenantOrigin[]): string {
  const { reference: _, to: __, tenants: ___, ...way } = request;
  const rows = origins.map(({ facts, found }) => [facts.id, found.manifest.body.backupId]);
  return createHash("sha256")
    .update(JSON.stringify([way, rows]))
    .digest("hex")
    .slice(0, 16);
}

const LOOK_BACK_MS = 24 * 3_600_000;

/** Tenants of the queue that are restored already, unless all are: then it is a new one. */
export async function doneInQueue(site: Site, queue: string, size: number): Promise<Set<string>> {
  try {
    const since = new Date(site.clock.now().getTime() - LOOK_BACK_MS).toISOString();
    const restores = await site.catalog.restores({ status: ["completed"], since });
    const done = restores
      .filter(({ metadata }) => metadata.queue === queue)
      .map(({ metadata }) => String(metadata.tenantId));
    const tenants = new Set(done);
    return tenants.size < size ? tenants : new Set();
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    return new Set(); // then all are done anew, which changes nothing in those that are right
  }
}
