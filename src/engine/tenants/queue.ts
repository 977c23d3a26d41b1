import { createHash } from "node:crypto";
import { isJBackupError } from "../../domain/errors.js";
import type { Session } from "../../postgres/postgres.js";
import type { TenantRestoreRequest } from "../restoreTenant.js";
import type { Site } from "../site.js";
import type { TenantOrigin } from "./origins.js";

/**
 * One tenant's place in a queue: the same tenants in the same way, and this one from the same backup or the same moment. A run
 * that was broken off is gone on with by giving the same command again. What is exported anew for every run must not count, and
 * `--to latest` is another moment every time.
 */
export function placeInQueue(
  request: TenantRestoreRequest,
  { facts, found, source }: Pick<TenantOrigin, "facts" | "found" | "source">,
): string {
  const { reference: _, to, tenants, ...way } = request;
  const from =
    source.kind === "backup" && to !== "latest"
      ? [source.backupId, source.moment]
      : [found.manifest.body.backupId];
  return createHash("sha256")
    .update(JSON.stringify([way, tenants.toSorted(), facts.id, from]))
    .digest("hex")
    .slice(0, 16);
}

const LOOK_BACK_MS = 24 * 3_600_000;

/** Those of the queue that are restored already, unless all are: then it is a new one. */
export async function doneInQueue(site: Site, places: string[], session: Session): Promise<Set<string>> {
  if (places.length < 2) return new Set();
  try {
    const since = new Date(site.clock.now().getTime() - LOOK_BACK_MS).toISOString();
    const done = new Set<string>();
    for (const { status, metadata } of await site.catalog.restores({ since })) {
      const { queue, xid } = metadata as { queue?: string; xid?: string };
      if (queue === undefined || !places.includes(queue)) continue;
      if (status === "completed" || (xid !== undefined && (await wasCommitted(session, xid))))
        done.add(queue);
    }
    return done.size < places.length ? done : new Set();
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    return new Set(); // then all are done anew, which changes nothing in those that are right
  }
}

/** A run that was killed behind its commit could not say so any more. PostgreSQL knows. */
async function wasCommitted(session: Session, xid: string): Promise<boolean> {
  const [row] = await session.rows<{ status: string | null }>("select txid_status($1::bigint) as status", [
    xid,
  ]);
  return row?.status === "committed";
}
