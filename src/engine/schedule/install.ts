import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { FOLLOW, FOLLOW_WORDS, LEFTOVERS, SCHEDULED, timedJobs } from "../../domain/schedule.js";
import { lastingUnit, madeBy, timedUnits, type Unit, type UnitPlace, unitName } from "../../domain/units.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import { exists, placeOf } from "./place.js";
import { systemctl } from "./programs.js";

export interface InstallWish {
  dryRun: boolean;
  /** Write here, and tell nobody: for whoever copies the files elsewhere. */
  directory: string | null;
  /** Who runs the services, where it is not root. */
  user: string | null;
}

export interface FileChange {
  path: string;
  action: "written" | "unchanged" | "removed";
  /** With a dry run: what would stand in it. */
  text?: string;
}

export interface Installed {
  kind: "systemd" | "cron";
  dryRun: boolean;
  files: FileChange[];
  /** Commands that were run, or are to be run by whoever installed into another directory. */
  commands: string[];
  isActive: boolean;
  warnings: string[];
}

/** The line of the schedule that a site without one is told about. */
export function requireSchedule(site: Site): void {
  if (Object.values(site.config.schedule).some((text) => text !== undefined)) return;
  throw new JBackupError("config_invalid", `${site.config.file} has no schedule`, {
    hint: 'add one such as schedule: {full: "0 2 * * *", wal: "*/5 * * * *", verify: "0 5 * * *", cleanup: "0 6 * * *"}',
  });
}

export function unitsOf(site: Site, place: UnitPlace): Unit[] {
  const jobs = timedJobs(site.config.schedule);
  return [
    ...(site.config.schedule.wal === FOLLOW
      ? [lastingUnit("wal", "follow the WAL", FOLLOW_WORDS, place)]
      : []),
    ...jobs.flatMap((job) => timedUnits(job, SCHEDULED[job.name].title, SCHEDULED[job.name].words, place)),
    ...timedUnits(LEFTOVERS, LEFTOVERS.title, LEFTOVERS.words, place),
  ];
}

export const systemdDirectory = ({ environment }: Site): string =>
  environment.isRoot
    ? "/etc/systemd/system"
    : join(environment.variable("XDG_CONFIG_HOME") || join(environment.home, ".config"), "systemd", "user");

/** A service and a timer for each job, in place of those of an earlier time. */
export async function installSystemd(site: Site, wish: InstallWish): Promise<Installed> {
  requireSchedule(site);
  const directory = wish.directory ?? systemdDirectory(site);
  const place = await placeOf(site, { isSystem: site.environment.isRoot, user: wish.user });
  const units = unitsOf(site, place);
  const old = await ownUnits(site, directory);
  const files: FileChange[] = [];
  for (const { name, text } of units) {
    const path = join(directory, name);
    const before = await readOrNull(path);
    if (before !== null && !before.startsWith(madeBy(site.config.site)))
      throw new JBackupError("target_refused", `${path} is there and was not made by this command`, {
        hint: "move it away, then install again",
      });
    const action = before === text ? "unchanged" : "written";
    files.push(wish.dryRun ? { path, action, text } : { path, action });
  }
  const stale = old.filter((name) => !units.some((unit) => unit.name === name));
  const isActive = wish.directory === null;
  const control = systemctl(site);
  if (!wish.dryRun) {
    if (isActive) await control.requireRunning();
    if (isActive && stale.length > 0)
      await control.run(["disable", "--now", ...stale.filter(isStarted(stale))]);
    for (const name of stale) await rm(join(directory, name));
    for (const { name, text } of units)
      await writeFileAtomic(join(directory, name), text, {
        overwrite: true,
        mode: 0o644,
        directoryMode: 0o755,
      });
  }
  files.push(...stale.map((name): FileChange => ({ path: join(directory, name), action: "removed" })));
  const started = units.map(({ name }) => name).filter(isStarted(units.map(({ name }) => name)));
  const commands = [["daemon-reload"], ["enable", "--now", ...started]];
  if (isActive && !wish.dryRun) for (const words of commands) await control.run(words);
  return {
    kind: "systemd",
    dryRun: wish.dryRun,
    files,
    commands: commands.map((words) => control.text(words)),
    isActive: isActive && !wish.dryRun,
    warnings: await warningsOf(site, place),
  };
}

/** Timers start their services; a service without one starts by itself. */
const isStarted =
  (names: readonly string[]) =>
  (name: string): boolean =>
    name.endsWith(".timer") || !names.includes(name.replace(/\.service$/, ".timer"));

export async function removeSystemd(site: Site, wish: InstallWish): Promise<Installed> {
  const directory = wish.directory ?? systemdDirectory(site);
  const names = await ownUnits(site, directory);
  const control = systemctl(site);
  const commands =
    names.length === 0 ? [] : [["disable", "--now", ...names.filter(isStarted(names))], ["daemon-reload"]];
  const isActive = wish.directory === null && !wish.dryRun && (await control.isRunning());
  if (isActive && commands[0] !== undefined) await control.run(commands[0]);
  if (!wish.dryRun) for (const name of names) await rm(join(directory, name));
  if (isActive && commands[1] !== undefined) await control.run(commands[1]);
  return {
    kind: "systemd",
    dryRun: wish.dryRun,
    files: names.map((name) => ({ path: join(directory, name), action: "removed" })),
    commands: commands.map((words) => control.text(words)),
    isActive: false,
    warnings: [],
  };
}

/** Units of this very site that this command made: another site's name may begin like this one's. */
export async function ownUnits(site: Site, directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const own: string[] = [];
  for (const name of names.sort()) {
    if (!name.startsWith(unitName(site.config.site, "")) || !/\.(service|timer)$/.test(name)) continue;
    const text = await readOrNull(join(directory, name));
    if (text?.startsWith(`${madeBy(site.config.site)}\n`)) own.push(name);
  }
  return own;
}

export async function readOrNull(path: string): Promise<string | null> {
  return readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
}

export async function warningsOf(site: Site, place: UnitPlace): Promise<string[]> {
  const warnings: string[] = [];
  const { secretVariables } = site.config;
  if (place.environmentFile !== null && !(await exists(place.environmentFile)))
    warnings.push(
      `the configuration takes ${[...secretVariables].join(", ")} from the environment, which scheduled runs do not have: write them as NAME=value lines into ${place.environmentFile} (mode 0600)`,
    );
  for (const path of place.writable)
    if (!(await exists(path)))
      warnings.push(`${path} is not there yet: run jbackup backup full once by hand, which makes it`);
  return warnings;
}
