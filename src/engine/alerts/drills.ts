import type { Drill, Run } from "../../domain/backup.js";
import { SCHEDULED } from "../../domain/schedule.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import type { Site } from "../site.js";

export const DRILL_OVERDUE = "drill:overdue";

export interface DrillTimes {
  last: Run | undefined;
  good: Run | undefined;
  /** By when the objective wants the next one; null while there is nothing to recover. */
  dueAt: Date | null;
  overdueSince: Date | null;
}

/** What the catalog knows of drills, in the words of runs; the newest first. Recoveries in earnest are none. */
export async function drillRuns(site: Site): Promise<Run[]> {
  return (await site.catalog.drills()).filter(({ drill }) => drill).map(runOf);
}

const runOf = ({ id, status, startedAt, finishedAt, initiatedBy, steps, metadata, runbook }: Drill): Run => ({
  id,
  job: SCHEDULED.drill.job,
  status: status === "aborted" ? "interrupted" : status,
  startedAt,
  finishedAt,
  host: initiatedBy.slice(initiatedBy.lastIndexOf("@") + 1),
  pid: 0,
  exitCode: null,
  error: status === "failed" ? `${runbook} stopped at ${failedStep(steps)}` : null,
  metadata,
});

function failedStep(steps: unknown[]): string {
  const failed = (steps as { name?: unknown; status?: unknown }[]).find(({ status }) => status === "failed");
  return typeof failed?.name === "string" ? failed.name : "a step that is not recorded";
}

/** When a drill was made last, and by when another is wanted. A site that is younger than the objective is still in time. */
export async function drillsOf(site: Site): Promise<DrillTimes> {
  const { drillEveryMs } = site.config.objectives;
  const nowMs = site.clock.now().getTime();
  const runs = await drillRuns(site);
  const [last] = runs;
  const good = runs.find(({ status }) => status === "succeeded");
  const since = good?.startedAt ?? (await firstBackupAt(site, new Date(nowMs - drillEveryMs)));
  if (since === null) return { last, good, dueAt: null, overdueSince: null };
  const dueAt = new Date(Date.parse(since) + drillEveryMs);
  return { last, good, dueAt, overdueSince: dueAt.getTime() < nowMs ? dueAt : null };
}

/** Older than that moment it is overdue, however much older; else it is the first sign of the site. */
async function firstBackupAt(site: Site, before: Date): Promise<string | null> {
  const [old] = await site.catalog.backups({ until: before.toISOString(), limit: 1 });
  if (old !== undefined) return old.createdAt;
  const [any] = await site.catalog.backups({ limit: 1 });
  if (any === undefined) return null;
  const [first] = await site.catalog.runs({ oldestFirst: true, limit: 1 });
  const times = [any.createdAt, first?.startedAt ?? any.createdAt].filter((at) => at >= before.toISOString());
  return times.sort()[0] ?? any.createdAt;
}

/** A recovery that nobody has practised for too long. */
export async function watchDrills(site: Site): Promise<void> {
  const { good, overdueSince } = await drillsOf(site);
  if (overdueSince === null) {
    if (good !== undefined) await resolveAlert(site, DRILL_OVERDUE, "a drill succeeded");
    return;
  }
  const days = Math.round(site.config.objectives.drillEveryMs / 86_400_000);
  await raiseAlert(site, {
    type: "DRILL_OVERDUE",
    severity: "warning",
    fingerprint: DRILL_OVERDUE,
    message:
      good === undefined
        ? "no recovery was ever practised here"
        : `the last drill that succeeded was at ${good.startedAt}, more than ${days} days ago`,
    hint: "run jbackup dr run server-lost --drill; it touches nothing but a scratch folder",
  });
}
