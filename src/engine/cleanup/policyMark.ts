import { digestOf, readMark, writeMark } from "../mark.js";
import type { Site } from "../site.js";

const MARK = "retention";

const markOf = (site: Site): string => digestOf(site.config.retention);

/** Whether the policy is another one than that of the last cleanup on this host. The very first one is not a change. */
export async function isPolicyNew(site: Site): Promise<boolean> {
  const before = await readMark(site, MARK);
  return before !== null && before !== markOf(site);
}

export const rememberPolicy = (site: Site): Promise<void> => writeMark(site, MARK, markOf(site));

const DONE_MARK = "cleaned";
/** Longer ago than this, and ageing alone no longer explains what goes. */
const ROUTINE_MS = 8 * 86_400_000;

/** Whether a cleanup by these very rules was carried out lately: then what goes now has only grown older since. */
export async function isRoutine(site: Site): Promise<boolean> {
  const [policy, at = ""] = ((await readMark(site, DONE_MARK)) ?? "").split(" ");
  const agoMs = site.clock.now().getTime() - Date.parse(at);
  return policy === markOf(site) && agoMs >= 0 && agoMs <= ROUTINE_MS;
}

export const rememberCleaned = (site: Site): Promise<void> =>
  writeMark(site, DONE_MARK, `${markOf(site)} ${site.clock.now().toISOString()}`);
