import { JBackupError } from "../../domain/errors.js";
import type { Site } from "../site.js";
import type { CleanupPlan } from "./plan.js";

const CLOCKS_APART_MS = 5 * 60_000;

/** What would make every age wrong. */
export async function requireSane(site: Site, { survey, storages }: CleanupPlan): Promise<void> {
  const nowMs = site.clock.now().getTime();
  const ahead = survey.backups.find(({ body }) => Date.parse(body.finishedAt) > nowMs + CLOCKS_APART_MS);
  if (ahead)
    throw clockWrong(`backup ${ahead.body.label} is from ${ahead.body.finishedAt}, which is in the future`);
  const serverMs = await serverTimeMs(site);
  const apartMs = serverMs === null ? 0 : Math.abs(serverMs - site.clock.now().getTime());
  if (apartMs > CLOCKS_APART_MS)
    throw clockWrong(`this host and the database server differ by ${Math.round(apartMs / 60_000)} minutes`);
  for (const { storage, keep, backups } of storages)
    if (backups > 0 && keep.length === 0)
      throw new JBackupError("bug", `the plan would leave nothing in storage ${storage}`);
}

const clockWrong = (what: string): JBackupError =>
  new JBackupError("environment", `clocks disagree, so ages cannot be trusted: ${what}`, {
    hint: "set the clock right (timedatectl), then run jbackup cleanup again; nothing was removed",
  });

async function serverTimeMs(site: Site): Promise<number | null> {
  try {
    const session = await (await site.postgres()).admin();
    try {
      const [row] = await session.rows<{ ms: string }>(
        "select (extract(epoch from clock_timestamp()) * 1000)::bigint::text as ms",
      );
      return row === undefined ? null : Number(row.ms);
    } finally {
      await session.close();
    }
  } catch (error) {
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    return null; // said when the locks were taken
  }
}
