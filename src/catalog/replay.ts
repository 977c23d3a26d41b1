import { open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import { isAlive, ownMark } from "../sys/processes.js";
import type { Catalog } from "./catalog.js";
import type { Write } from "./journal.js";
import { isMissing, JOURNAL_SUFFIX, syncDirectory } from "./journalFile.js";

type Tell = (trouble: JBackupError) => void;

const WRITES: Record<Write, true> = {
  saveBackups: true,
  saveRestore: true,
  saveVerification: true,
  saveAlert: true,
  saveRun: true,
  saveDrill: true,
  savePin: true,
  saveDelivery: true,
  saveJobRequest: true,
  saveMeasure: true,
  appendAudit: true,
};

/**
 * Replays every journal that no living process is replaying. Rejects with catalog_unavailable, having kept the rest.
 * Journals that cannot be read or moved are told about, and do not keep anybody from the catalog.
 */
export async function replayJournals(directory: string, catalog: Catalog, tell: Tell): Promise<void> {
  for (const name of await journalsIn(directory, tell)) {
    try {
      const claim = await claimJournal(directory, name);
      if (claim !== undefined) await replayJournal(directory, claim, catalog, tell);
    } catch (error) {
      if (isJBackupError(error)) throw error;
      tell(cannotReplay(join(directory, name), error));
    }
  }
}

const cannotReplay = (path: string, cause: unknown): JBackupError =>
  new JBackupError("failed", `cannot replay the catalog's journal ${path}: ${reasonOf(cause)}`, {
    hint: "Check the rights on the journal and its directory, then run any jbackup command again.",
    cause,
  });

interface Claim {
  /** The journal's own name, to be given back. */
  name: string;
  path: string;
}

/** Oldest first. A claimed journal keeps its name in front, and so its place. */
async function journalsIn(directory: string, tell: Tell): Promise<string[]> {
  try {
    const names = await readdir(directory);
    return names.filter((name) => name.endsWith(JOURNAL_SUFFIX) || name.includes(CLAIMED)).sort();
  } catch (error) {
    if (!isMissing(error)) tell(cannotReplay(directory, error));
    return [];
  }
}

const CLAIMED = `${JOURNAL_SUFFIX}.claimed-`;

/** Only one of those who rename a file succeeds. A claim of a process that died is claimed in turn. */
async function claimJournal(directory: string, found: string): Promise<Claim | undefined> {
  const [stem = "", owner] = found.split(CLAIMED);
  if (owner !== undefined && isOwnerAlive(owner)) return undefined;
  const name = owner === undefined ? found : stem + JOURNAL_SUFFIX;
  const { pid, startTicks, bootId } = ownMark();
  const path = join(directory, `${name}.claimed-${pid}_${startTicks ?? ""}_${bootId ?? ""}`);
  try {
    await rename(join(directory, found), path);
    return { name, path };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function isOwnerAlive(owner: string): boolean {
  const [pid, startTicks, bootId] = owner.split("_");
  return isAlive({ pid: Number(pid), startTicks: startTicks || null, bootId: bootId || null });
}

async function replayJournal(directory: string, claim: Claim, catalog: Catalog, tell: Tell): Promise<void> {
  const lines = (await readFile(claim.path, "utf8")).split("\n");
  // Behind the last line feed stands nothing, or a line whose writer died before it could rely on it.
  lines.pop();
  for (const [index, line] of lines.entries()) {
    try {
      await replayLine(line, catalog);
    } catch (error) {
      if (isJBackupError(error, "catalog_unavailable")) {
        await giveBack(directory, claim, lines.slice(index));
        throw error;
      }
      tell(await setAside(directory, claim, line, error));
    }
  }
  await rm(claim.path);
  await rm(restOf(directory, claim), { force: true });
  await syncDirectory(directory);
}

async function replayLine(line: string, catalog: Catalog): Promise<void> {
  const { v, write, record } = JSON.parse(line) as { v: unknown; write: string; record: unknown };
  if (v !== 1 || !Object.hasOwn(WRITES, write)) throw new Error(`unknown kind of record: ${write} (${v})`);
  await (catalog[write as Write] as (record: unknown) => Promise<void>)(record);
}

/** What was replayed is left out: by the next time, another process may have recorded something newer. */
async function giveBack(directory: string, claim: Claim, rest: string[]): Promise<void> {
  const shorter = restOf(directory, claim);
  try {
    await writeDurably(shorter, rest.map((line) => `${line}\n`).join(""), "w");
    await rename(shorter, claim.path);
  } finally {
    // on a full disk it goes back whole
    await rename(claim.path, join(directory, claim.name));
    await syncDirectory(directory);
  }
}

const restOf = (directory: string, claim: Claim): string => join(directory, `${claim.name}.rest`);

async function setAside(
  directory: string,
  claim: Claim,
  line: string,
  error: unknown,
): Promise<JBackupError> {
  const path = join(directory, claim.name.replace(JOURNAL_SUFFIX, ".refused"));
  await writeDurably(path, `${line}\n`, "a");
  const message = `a journaled record was refused by the catalog and kept in ${path}: ${reasonOf(error)}`;
  return new JBackupError("conflict", message, {
    hint: "Run `jbackup catalog rebuild` to be sure that every backup is listed, and report this as a bug.",
    cause: error,
  });
}

async function writeDurably(path: string, text: string, flag: "a" | "w"): Promise<void> {
  const handle = await open(path, flag, 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
