import { objectIn } from "../sys/ownFiles.js";
import { isAlive, isProcessMark, ownMark } from "../sys/processes.js";
import { quoteName, type Session } from "./connection.js";

/** Whose restores: other sites may have theirs on the same server. */
export interface RestoringSite {
  site: string;
  host: string;
}

/** Begins the database's comment while it is incomplete: what a killed run left is recognised by it. */
const HALF_RESTORED = "jbackup: restore in progress, do not use";

/** Says who restores, so that nobody else takes it for a leftover. */
export const halfRestoredMark = ({ site, host }: RestoringSite): string =>
  `${HALF_RESTORED} ${JSON.stringify({ site, host, ...ownMark() })}`;

export interface FoundSide {
  name: string;
  comment: string | null;
  /** Whether sessions are on it. */
  isBusy: boolean;
  /** As it comes from `create database`: the mark was still to be written. */
  isUntouched: boolean;
}

/** Whether a run that is gone left it, and nobody else than this site has a say in it. */
export function isLeftover({ comment, isBusy, isUntouched }: FoundSide, asking: RestoringSite): boolean {
  if (comment === null || comment === "") return isUntouched && !isBusy;
  if (comment === HALF_RESTORED) return !isBusy; // of a version that did not write whose it is
  if (!comment.startsWith(HALF_RESTORED)) return false;
  const mark = objectIn(comment.slice(HALF_RESTORED.length));
  if (mark === null || mark.site !== asking.site) return false;
  // what runs on another host cannot be seen from here; a run that is gone has no sessions for long
  if (mark.host !== asking.host) return !isBusy;
  return !(isProcessMark(mark) && isAlive(mark));
}

const MAKING = "hashtextextended('jbackup:making a side database', 0)";

/** From its making to its mark, a database cannot be told from one that was left without: nobody may sweep meanwhile. */
export async function whileNobodySweeps(admin: Session, make: () => Promise<void>): Promise<void> {
  await admin.run(`select pg_advisory_lock_shared(${MAKING})`);
  try {
    await make();
  } finally {
    await admin.run(`select pg_advisory_unlock_shared(${MAKING})`).catch(() => undefined); // gone with the session
  }
}

export const dropDatabase = (admin: Session, name: string): Promise<void> =>
  admin.run(`drop database if exists ${quoteName(name)} with (force)`);

/** Drops what killed restores of this site left; answers their names. */
export async function sweepHalfRestored(admin: Session, asking: RestoringSite): Promise<string[]> {
  const [making] = await admin.rows<{ ended: string }>(
    `select pg_try_advisory_lock(${MAKING})::text as ended`,
  );
  const isMaking = making?.ended !== "true";
  try {
    const left = (await findSides(admin)).filter(
      (side) => isLeftover(side, asking) && !(isMaking && (side.comment ?? "") === ""),
    );
    for (const { name } of left) await dropDatabase(admin, name);
    return left.map(({ name }) => name);
  } finally {
    if (!isMaking) await admin.run(`select pg_advisory_unlock(${MAKING})`);
  }
}

async function findSides(admin: Session): Promise<FoundSide[]> {
  const found = await admin.rows<{ name: string; comment: string | null; busy: string; untouched: string }>(
    `select datname as name, shobj_description(oid, 'pg_database') as comment,
            exists (select from pg_stat_activity a where a.datid = d.oid)::text as busy,
            (has_database_privilege(oid, 'connect') and pg_database_size(oid) <=
              (select pg_database_size(t.oid) from pg_database t where t.datname = 'template0') + 1024 * 1024)::text as untouched
       from pg_database d where datname ~ '_jbackup_[0-9a-f]{8}$'`,
  );
  return found.map(({ name, comment, busy, untouched }) => ({
    name,
    comment,
    isBusy: busy === "true",
    isUntouched: untouched === "true",
  }));
}
