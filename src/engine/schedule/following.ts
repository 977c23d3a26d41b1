import { FOLLOW_WORDS } from "../../domain/schedule.js";
import type { Site } from "../site.js";
import { runJob } from "./child.js";
import type { Follower } from "./health.js";
import { rest } from "./rest.js";

const FOLLOWER_PAUSE_MS = { first: 1_000, longest: 60_000 };
const STAND_BY_MS = 10_000;
/** A follower that held for so long did not fail at once. */
const HELD_MS = 60_000;

/** The follower of the WAL is begun again whenever it ends, sooner if it held for a while, until it is told to stop. */
export async function keepFollowing(site: Site, follower: Follower, signal: AbortSignal): Promise<void> {
  let pauseMs = FOLLOWER_PAUSE_MS.first;
  while (!signal.aborted) {
    const end = await runJob({ ...site, signal }, "wal", FOLLOW_WORDS, (pid) => {
      follower.pid = pid;
    });
    follower.pid = null;
    if (signal.aborted) return;
    // the server lets one host follow; this one stands by
    if (end.exitCode === 11) {
      if (!follower.isElsewhere) site.report.info(`wal: ${end.error}; this one stands by`);
      follower.isElsewhere = true;
      await rest(signal, STAND_BY_MS);
      continue;
    }
    follower.isElsewhere = false;
    follower.restarts++;
    pauseMs =
      end.durationMs > HELD_MS ? FOLLOWER_PAUSE_MS.first : Math.min(FOLLOWER_PAUSE_MS.longest, pauseMs * 2);
    site.report.warn(
      `wal: the follower ended (${end.error ?? "without a word"}); again in ${pauseMs / 1000} s`,
    );
    await rest(signal, pauseMs);
  }
}
