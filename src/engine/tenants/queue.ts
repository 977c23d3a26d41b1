import { createHash } from "node:crypto";
import type { Restore } from "../../domain/backup.js";
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

/** Restores by their places in the queue that are done already, unless all are: then it is a new queue. */
export async function doneInQueue(
  site: Site,
  places: string[],
  session: Session,
): Promise<Map<string, Restore>> {
  const done = new Map<string, Restore>();
  if (places.length < 2) return done;
  try {
    const since = new Date(site.clock.now().getTime() - LOOK_BACK_MS).toISOString();
    for (const restore of await site.catalog.restores({ since })) {
      const { queue, xid } = restore.metadata as { queue?: string; xid?: string | null };
      if (queue === undefined || done.has(queue) || !places.includes(queue)) continue;
      const isOver = restore.status === "completed";
      if (isOver || (xid != null && (await wasCommitted(session, xid)))) done.set(queue, restore);
    }
    return done.size < places.length ? done : new Map();
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    return new Map(); // then all are done anew, which changes nothing in those that are right
  }
}

/** A run that was killed behind its commit could not say so any more. PostgreSQL knows. */
async function wasCommitted(session: Session, xid: string): Promise<boolean> {
  const [row] = await session.rows<{ status: string | null }>("select txid_status($1::bigint) as status", [
    xid,
  ]);
  return row?.status === "committed";
}
