import type { Backup } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { ratioOf } from "../domain/record.js";
import { lsnText, parseLsn, walFolder } from "../domain/wal.js";
import type { Postgres, Session } from "../postgres/postgres.js";
import { collectGarbageAtOnce } from "../sys/garbage.js";
import { type BackupRequest, recorded } from "./backup/record.js";
import { lockOnServer } from "./lock.js";
import { requireOwnSystem } from "./ownSystem.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { type Archiving, archiveUpTo } from "./wal/archiving.js";
import { follow } from "./wal/follow.js";
import { behindStorages, failing, healMissed, noteMissed } from "./wal/missed.js";
import { openWalWriter } from "./wal/walWriter.js";

export const WAL_JOB = "backup-wal";

export interface WalRequest extends BackupRequest {
  /** Go on until stopped. */
  follow: boolean;
}

/** The name of the slot, and of the receiver for synchronous_standby_names. */
export const slotName = (site: Site): string =>
  `jbackup_${site.config.site.toLowerCase().replace(/[^a-z0-9_]/g, "_")}`.slice(0, 63);

/** Archives the WAL up to now, or for as long as it is let. */
export async function archiveWal(site: Site, request: WalRequest): Promise<Backup> {
  return withRun(site, WAL_JOB, async (run) => {
    const postgres = await site.postgres();
    const session = await postgres.admin();
    try {
      await lockOnServer(site, session, WAL_JOB);
      await run.settleKilled();
      return await recordedRun(site, run, request, postgres, session);
    } finally {
      await session.close();
    }
  });
}

async function recordedRun(
  site: Site,
  run: RunContext,
  request: WalRequest,
  postgres: Postgres,
  session: Session,
): Promise<Backup> {
  const what = { job: WAL_JOB, kind: "wal", method: null, note: request.note } as const;
  return recorded(site, run, what, async (draft) => {
    collectGarbageAtOnce();
    const server = await postgres.wal.server(session);
    await requireOwnSystem(site, server.systemId);
    const writer = await openWalWriter(
      site,
      server.systemId,
      request.follow ? lateSignal(site) : site.signal,
    );
    const archiving: Archiving = {
      site,
      postgres,
      session,
      server,
      writer,
      slot: slotName(site),
      tally: { segments: 0, pieces: 0, walBytes: 0, from: null, to: null, timeline: 0 },
    };
    try {
      if (request.follow) await follow(archiving);
      else await archiveUpTo(archiving, await postgres.wal.endOfWal(session, server));
      await writer.settled();
    } finally {
      await noteMissed(site, writer);
    }
    // slow storages, and those that are back, get the rest when nobody waits for it any more
    await healAtTheEnd(site, server.systemId, failing(writer));
    return finished(site, draft, archiving, await behindStorages(site));
  });
}

/** What was received when the end was asked for still gets the time to be stored. */
function lateSignal(site: Site): AbortSignal {
  const late = new AbortController();
  const abort = (): void => {
    setTimeout(() => late.abort(site.signal.reason), LAST_PIECE_MS).unref();
  };
  if (site.signal.aborted) abort();
  else site.signal.addEventListener("abort", abort, { once: true });
  return late.signal;
}

const LAST_PIECE_MS = 7_000;
const LAST_COPIES_MS = 2_000;

/** A follower that is told to end still gives storages what they were too slow for, as far as there is time. */
async function healAtTheEnd(site: Site, systemId: string, away: string[]): Promise<void> {
  if (!site.signal.aborted) return healMissed(site, systemId, away);
  const late = { ...site, signal: AbortSignal.timeout(LAST_COPIES_MS) };
  try {
    await healMissed(late, systemId, away);
  } catch (error) {
    if (!late.signal.aborted) throw error; // else the next run goes on with it
  }
}

function finished(site: Site, draft: Backup, { server, writer, tally }: Archiving, behind: string[]): Backup {
  const finishedAt = site.clock.now();
  if (tally.to === null) throw new JBackupError("bug", "the archiving ended without a position");
  return {
    ...draft,
    status: "completed",
    finishedAt: finishedAt.toISOString(),
    durationMs: finishedAt.getTime() - Date.parse(draft.createdAt),
    rawBytes: tally.walBytes,
    storedBytes: writer.storedBytes,
    compressionRatio: ratioOf(tally.walBytes, writer.storedBytes),
    copies: site.config.storages.map(({ name, kind }) => ({
      storage: name,
      kind,
      status: behind.includes(name) ? "missing" : "stored",
      path: walFolder(server.systemId),
      bytes: behind.includes(name) ? 0 : writer.storedBytes,
      verifiedAt: null,
    })),
    metadata: {
      systemId: server.systemId,
      timeline: tally.timeline,
      fromLsn: lsnText(tally.from ?? tally.to),
      toLsn: lsnText(tally.to),
      segments: tally.segments,
      pieces: tally.pieces,
      lagBytes: Number(tally.to - (tally.from ?? parseLsn(lsnText(tally.to)))),
    },
  };
}
