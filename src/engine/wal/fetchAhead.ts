import { setTimeout as pause } from "node:timers/promises";
import { parseSegmentName, segmentName } from "../../domain/wal.js";
import { takeFileLock } from "../../sys/fileLock.js";
import type { Site } from "../site.js";
import { openNearestReader } from "./nearestReader.js";
import { walHomeOf } from "./remembered.js";
import { readSegmentHeader, USUAL_SEGMENT_BYTES } from "./segmentHeader.js";
import { Spool } from "./spool.js";

const AHEAD_BYTES = 8 * USUAL_SEGMENT_BYTES;
const PARALLEL = 3;
const LOOK_EVERY_MS = 25;
/** Nobody has asked for anything for so long: the recovery is over, or replays something huge. */
const IDLE_MS = 30_000;

/**
 * Keeps the segments behind the one that was asked for last in the spool, while a server in recovery takes them. Ends by itself
 * when the archive does, when nobody takes anything any more, or when something fails: the call that needs it tells then.
 */
export async function fetchAhead(site: Site, systemId: string): Promise<void> {
  const lock = await takeFileLock(`${site.config.home}/locks`, `${site.config.site}.fetch-ahead`);
  if (!("held" in lock)) return;
  const spool = new Spool(walHomeOf(site));
  try {
    await spool.prepare();
    await keepAhead(site, spool, openNearestReader(site, systemId));
  } finally {
    for (const name of await spool.names()) await spool.drop(name);
    lock.held.release();
  }
}

async function keepAhead(
  site: Site,
  spool: Spool,
  read: (name: string) => Promise<Buffer | null>,
): Promise<void> {
  let position = await spool.position();
  let segmentBytes = USUAL_SEGMENT_BYTES;
  let askedAtMs = site.clock.monotonicMs();
  const coming = new Map<string, Promise<void>>();
  let isOver = false;

  const bring = async (name: string): Promise<void> => {
    const content = await read(name);
    if (content === null) {
      isOver = true;
      return;
    }
    segmentBytes = readSegmentHeader(content)?.segmentBytes ?? segmentBytes;
    await spool.put(name, [content, Buffer.alloc(Math.max(0, segmentBytes - content.length))]);
  };

  while (position !== null && site.clock.monotonicMs() - askedAtMs < IDLE_MS) {
    site.signal.throwIfAborted();
    const wanted = behind(position, segmentBytes);
    for (const name of await spool.names()) if (!wanted.includes(name)) await spool.drop(name);
    for (const name of wanted) {
      if (isOver || coming.size >= PARALLEL) break;
      if (coming.has(name) || (await spool.has(name))) continue;
      const brought = bring(name)
        .catch(() => {
          isOver = true; // told by the call that asks for it
        })
        .finally(() => coming.delete(name));
      coming.set(name, brought);
    }
    await Promise.race([pause(LOOK_EVERY_MS), ...coming.values()]);
    const now = await spool.position();
    if (now !== position) askedAtMs = site.clock.monotonicMs();
    position = now;
    if (isOver && coming.size === 0 && (await spool.names()).length === 0) return;
  }
  await Promise.allSettled(coming.values());
}

function behind(position: string, segmentBytes: number): string[] {
  const { timeline, number } = parseSegmentName(position, segmentBytes);
  const count = Math.max(1, Math.floor(AHEAD_BYTES / segmentBytes));
  return Array.from({ length: Math.min(count, 16) }, (_, nth) =>
    segmentName({ timeline, number: number + BigInt(nth + 1) }, segmentBytes),
  );
}
