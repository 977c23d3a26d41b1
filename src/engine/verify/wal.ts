import { createHash } from "node:crypto";
import { isJBackupError } from "../../domain/errors.js";
import type { Storage } from "../../storage/storage.js";
import type { Site } from "../site.js";
import { OBJECT_MAX_BYTES, openStoredWal, type WalKeyOf, walKeys } from "../wal/sealedWal.js";
import { type Problem, problemOf } from "./problem.js";
import { type Share, shareOf } from "./share.js";
import type { Survey } from "./survey.js";
import { checkKeys } from "./walKeys.js";
import { missingIn, namesIn, type WalName } from "./walNames.js";

export interface CheckedWal {
  objects: number;
  bytes: number;
  problems: Problem[];
}

interface WalWish {
  level: "stored" | "sealed" | "content";
  share: Share | null;
}

/** Names that are compared at one time; each is in memory once a storage. */
const AT_A_TIME = 2;

/**
 * No manifest lists WAL, for it never stops coming: its copies are compared with each other, and where they differ, where one
 * is missing, or when they are to be opened anyway, the seal tells which one is right.
 */
export async function checkWal(site: Site, survey: Survey, wish: WalWish): Promise<CheckedWal> {
  const isToday = shareOf(wish.share, site.clock.now());
  const names = namesIn(survey);
  const found: CheckedWal = { objects: 0, bytes: 0, problems: await checkKeys(site, survey) };
  const missing = Map.groupBy(await missingIn(site, survey, names), ({ path }) => path);
  const keys = new Map<string, WalKeyOf>();
  const keyOf = (systemId: string): WalKeyOf => {
    const known = keys.get(systemId) ?? walKeys(site, survey.storages, systemId);
    keys.set(systemId, known);
    return known;
  };
  // what is missing is mended every day, from a copy that is proved right first
  const wanted = names.filter(({ key }) => isToday(key) || missing.has(key));
  const waiting = wanted[Symbol.iterator]();
  let done = 0;
  const worker = async (): Promise<void> => {
    for (const name of waiting) {
      site.signal.throwIfAborted();
      await compare(site, survey, name, keyOf(name.systemId), wish.level, found, missing.get(name.key) ?? []);
      site.report.progress({ task: "reading WAL", done: ++done, total: wanted.length, unit: "objects" });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  site.report.progressEnd();
  return found;
}

interface ReadCopy {
  storage: Storage;
  bytes: Buffer;
  sha256: string;
}

async function compare(
  site: Site,
  survey: Survey,
  { key, name }: WalName,
  keyOf: WalKeyOf,
  level: WalWish["level"],
  found: CheckedWal,
  missing: Problem[],
): Promise<void> {
  const bad: Problem[] = [];
  const copies: ReadCopy[] = [];
  for (const storage of survey.storages) {
    if (!survey.listed.get(storage.name)?.has(key)) continue;
    const where = { backupId: null, storage: storage.name, path: key, sha256: null, bytes: null };
    try {
      const bytes = await readTwice(site, storage, key, name);
      copies.push({ storage, bytes, sha256: createHash("sha256").update(bytes).digest("hex") });
      found.bytes += bytes.length;
    } catch (error) {
      site.signal.throwIfAborted();
      const problem = problemOf(error, where);
      // cleaned up, or replaced by the whole segment, since it was listed
      if (problem.kind !== "missing") bad.push(problem);
    }
  }
  found.objects += copies.length + bad.length;
  const isSame = copies.every(({ sha256 }) => sha256 === copies[0]?.sha256);
  if (isSame && level === "stored" && bad.length + missing.length === 0) return;
  const { problems, right } = await judge(site, key, name, copies, keyOf);
  found.problems.push(
    ...[...bad, ...problems].map((problem) => provenBy(problem, right)),
    ...missing.map((problem) => (right === "unknown" ? unproved(problem) : provenBy(problem, right))),
  );
}

const provenBy = (problem: Problem, right: Judged["right"]): Problem =>
  right === null || right === "unknown"
    ? problem
    : { ...problem, sha256: right.sha256, bytes: right.bytes.length };

const unproved = (problem: Problem): Problem => ({
  ...problem,
  problem: `${problem.problem}; it is copied only where a private key proves the other copies: run jbackup verify --all --heal there`,
});

/** Before anything is said of a copy that cannot be read, it is read once more. */
async function readTwice(site: Site, storage: Storage, key: string, name: string): Promise<Buffer> {
  const read = async (): Promise<Buffer> => {
    const bytes = await site.storage.readAll(storage, key, { maxBytes: OBJECT_MAX_BYTES });
    site.format.requireWalShape(bytes, site.config.site, name);
    return bytes;
  };
  try {
    return await read();
  } catch {
    site.signal.throwIfAborted();
    return read();
  }
}

interface Judged {
  problems: Problem[];
  /** A copy that opens; unknown where no key is at hand. */
  right: ReadCopy | null | "unknown";
}

/** By the seal: what opens is right. Without a key only the difference can be told. */
async function judge(
  site: Site,
  key: string,
  name: string,
  copies: ReadCopy[],
  keyOf: WalKeyOf,
): Promise<Judged> {
  const judged: Judged = { problems: [], right: null };
  const seen = new Map<string, unknown>();
  for (const copy of copies) {
    if (!seen.has(copy.sha256)) seen.set(copy.sha256, await openingError(site, copy.bytes, name, keyOf));
    const error = seen.get(copy.sha256);
    if (error === null) judged.right ??= copy;
    else if (isJBackupError(error, "no_key", "secret_unavailable"))
      return { problems: differing(key, copies), right: "unknown" };
    else
      judged.problems.push(
        problemOf(error, {
          backupId: null,
          storage: copy.storage.name,
          path: key,
          sha256: null,
          bytes: null,
        }),
      );
  }
  return judged;
}

async function openingError(site: Site, bytes: Buffer, name: string, keyOf: WalKeyOf): Promise<unknown> {
  try {
    await openStoredWal(site, bytes, name, keyOf);
    return null;
  } catch (error) {
    site.signal.throwIfAborted();
    return error;
  }
}

const differing = (key: string, copies: ReadCopy[]): Problem[] =>
  new Set(copies.map(({ sha256 }) => sha256)).size < 2
    ? []
    : copies.map(({ storage, bytes }) => ({
        backupId: null,
        storage: storage.name,
        path: key,
        problem: `differs from its other copies (${bytes.length} bytes here); a host with the key can tell which one is right`,
        kind: "damaged",
        sha256: null,
        bytes: null,
      }));
