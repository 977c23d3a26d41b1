import { JBackupError } from "../domain/errors.js";
import type { Session } from "../postgres/postgres.js";
import { makeDirectory } from "../sys/atomicFile.js";
import { takeFileLock } from "../sys/fileLock.js";
import { keepReserve } from "../sys/reserve.js";
import { claimHome } from "./home.js";
import type { Site } from "./site.js";

const lockName = (site: Site, job: string): string => `${site.config.site}.${job}`;

const taken = (job: string, who: string): JBackupError =>
  new JBackupError("locked", `another ${job} of this site is running${who}`, {
    hint: "wait for it to end, or end it; jbackup list --status in_progress shows what runs",
  });

async function haveRoom({ config: { home }, report }: Site): Promise<void> {
  await makeDirectory(home);
  if ((await keepReserve(home)).isFull)
    report.warn(
      `the disk of ${home} is full: this run goes on with the room that was kept in reserve; make more there`,
    );
}

/** One run of a job on this host at a time. Released by the kernel when the process dies, however it dies. */
export async function lockOnHost(site: Site, job: string): Promise<() => void> {
  await haveRoom(site);
  await claimHome(site);
  const { join } = await import("node:path");
  const result = await takeFileLock(join(site.config.home, "locks"), lockName(site, job));
  if ("held" in result) return () => result.held.release();
  throw taken(job, result.holder ? ` (process ${result.holder.pid})` : "");
}

/** One run of a job on this cluster at a time, whatever host it comes from. Held as long as the session lives. */
export async function lockOnServer(site: Site, admin: Session, job: string): Promise<void> {
  const [row] = await admin.rows<{ locked: string }>(
    "select pg_try_advisory_lock(hashtextextended($1, 0))::text as locked",
    [`jbackup:${lockName(site, job)}`],
  );
  if (row?.locked !== "true") throw taken(job, " on another host");
}

/** Several may hold it at once, and nobody then has it to himself. */
export async function shareLockOnServer(site: Site, admin: Session, job: string): Promise<void> {
  const [row] = await admin.rows<{ locked: string }>(
    "select pg_try_advisory_lock_shared(hashtextextended($1, 0))::text as locked",
    [`jbackup:${lockName(site, job)}`],
  );
  if (row?.locked !== "true") throw taken(job, " on another host");
}
