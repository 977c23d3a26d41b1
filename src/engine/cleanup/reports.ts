import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { reasonOf } from "../../domain/errors.js";
import { expiredReports, reportsStayMs } from "../../domain/reportRetention.js";
import type { Site } from "../site.js";
import { REPORTS_FOLDER } from "../testRestore/report.js";
import { policyOf } from "./kept.js";

export interface ReportsPlan {
  stayMs: number;
  /** Paths of reports of test restores whose time is over. */
  remove: string[];
}

/** What test restores left in the site's home. */
export async function planReports(site: Site): Promise<ReportsPlan> {
  const { config, clock } = site;
  const folder = join(config.home, REPORTS_FOLDER);
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const stayMs = reportsStayMs(config.storages.flatMap(({ name }) => policyOf(site, name) ?? []));
  const expired = expiredReports(names.toSorted(), { site: config.site, stayMs, now: clock.now() });
  return { stayMs, remove: expired.map((name) => join(folder, name)) };
}

/** Answers those that could not be removed: they are tried again by the next cleanup. */
export async function removeReports({ remove }: ReportsPlan): Promise<{ path: string; why: string }[]> {
  const failed: { path: string; why: string }[] = [];
  for (const path of remove)
    try {
      await rm(path, { force: true });
    } catch (error) {
      failed.push({ path, why: reasonOf(error) });
    }
  return failed;
}
