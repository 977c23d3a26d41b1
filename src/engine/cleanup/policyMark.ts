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
