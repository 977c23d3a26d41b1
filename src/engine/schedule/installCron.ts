import { join } from "node:path";
import { crontabLine, hasLines, withLines } from "../../domain/crontab.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { FOLLOW, LEFTOVERS, SCHEDULED, timedJobs } from "../../domain/schedule.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import { type Installed, type InstallWish, readOrNull, requireSchedule, warningsOf } from "./install.js";
import { foreignZone, placeOf } from "./place.js";
import { readCrontab, writeCrontab } from "./programs.js";

/** The user's own crontab, or a file named crontab in a directory. */
function crontabOf(site: Site, directory: string | null) {
  if (directory === null)
    return {
      name: "crontab",
      read: () => readCrontab(site),
      write: (text: string) => writeCrontab(site, text),
    };
  const name = join(directory, "crontab");
  return {
    name,
    read: async () => (await readOrNull(name)) ?? "",
    write: (text: string) =>
      writeFileAtomic(name, text, { overwrite: true, mode: 0o644, directoryMode: 0o755 }),
  };
}

/** A line for each job between two marks; every other line stays as it is. */
export async function installCron(site: Site, wish: InstallWish): Promise<Installed> {
  requireSchedule(site);
  requireCronCan(site, await foreignZone());
  const place = await placeOf(site, { isSystem: false, user: null });
  const lines = [
    ...timedJobs(site.config.schedule).map(({ name, text }) =>
      crontabLine(text, SCHEDULED[name].words, place),
    ),
    crontabLine(LEFTOVERS.text, LEFTOVERS.words, place),
  ];
  return change(site, wish, lines, await warningsOf(site, place));
}

export const removeCron = (site: Site, wish: InstallWish): Promise<Installed> => change(site, wish, [], []);

async function change(
  site: Site,
  { dryRun, directory }: InstallWish,
  lines: string[],
  warnings: string[],
): Promise<Installed> {
  const crontab = crontabOf(site, directory);
  const before = await crontab.read().catch((error: unknown) => {
    // a look needs no cron
    if (!dryRun || !isJBackupError(error, "environment")) throw error;
    site.report.warn(`${error.message}; these are the lines of this site alone`);
    return "";
  });
  const after = withLines(before, site.config.site, lines);
  if (!dryRun && after !== before) await crontab.write(after);
  const isRemoved = lines.length === 0;
  const action = after === before ? "unchanged" : isRemoved ? "removed" : "written";
  const isNothing = isRemoved && !hasLines(before, site.config.site);
  return {
    kind: "cron",
    dryRun,
    files: isNothing ? [] : [{ path: crontab.name, action, ...(dryRun ? { text: after } : {}) }],
    commands: [],
    isActive: directory === null && !dryRun && !isRemoved,
    warnings,
  };
}

/** cron keeps nothing running, and reads its lines in the machine's own zone. */
function requireCronCan({ config }: Site, zone: string | null): void {
  const hint = "use jbackup schedule install systemd, or jbackup schedule run as a service";
  if (config.schedule.wal === FOLLOW)
    throw new JBackupError(
      "config_invalid",
      "cron cannot keep a follower of the WAL running (schedule.wal: follow)",
      {
        hint: `${hint}; or give schedule.wal times, such as */5 * * * *`,
      },
    );
  if (zone !== null)
    throw new JBackupError("environment", `cron would read the times, which are UTC, as those of ${zone}`, {
      hint: `${hint}; or set this machine's zone to UTC`,
    });
}
