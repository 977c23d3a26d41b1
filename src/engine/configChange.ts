import { recordAudit } from "./audit.js";
import { readMark, writeMark } from "./mark.js";
import type { Site } from "./site.js";

const MARK = "config";

/**
 * A job that finds another configuration than the last one did on this host writes that down, and so does the first one: no site
 * with a backup has an empty audit.
 */
export async function noteConfigChange(site: Site): Promise<void> {
  const { file, digest } = site.config;
  const before = await readMark(site, MARK);
  if (before === digest) return;
  if (before === null) await recordAudit(site, "config.seen", file, { now: digest });
  else await recordAudit(site, "config.change", file, { before, now: digest });
  await writeMark(site, MARK, digest);
}
