import { createHash } from "node:crypto";
import { JBackupError } from "../../domain/errors.js";
import type { Manifest } from "../../domain/manifest.js";
import { parseEpochKey } from "../../domain/wal.js";
import { opensHere } from "../provedKeys.js";
import type { Site } from "../site.js";
import { judgeKeys } from "./judgeKeys.js";
import { type Problem, problemOf } from "./problem.js";
import type { Survey } from "./survey.js";
import { missing } from "./walNames.js";

interface Copy {
  name: string;
  bytes: Buffer;
  manifest: Manifest;
}

/** The keys of the WAL: without them a storage's copies of it open for nobody. Every storage that holds WAL holds all of them. */
export async function checkKeys(site: Site, survey: Survey): Promise<Problem[]> {
  const keys = new Set(
    [...survey.listed.values()].flatMap((found) =>
      [...found.keys()].filter((key) => parseEpochKey(key) !== null),
    ),
  );
  const problems: Problem[] = [];
  for (const key of keys) {
    site.signal.throwIfAborted();
    problems.push(...(await checkKey(site, survey, key)));
  }
  return problems;
}

async function checkKey(
  site: Site,
  { readable, storages, listed, signers }: Survey,
  key: string,
): Promise<Problem[]> {
  const expect = { site: site.config.site, backupId: parseEpochKey(key) as string };
  const found: Problem[] = [];
  const copies: Copy[] = [];
  for (const storage of readable) {
    const { name } = storage;
    if (!listed.get(name)?.has(key)) {
      found.push(missing(name, key));
      continue;
    }
    try {
      const bytes = await site.storage.readAll(storage, key, { maxBytes: site.format.MANIFEST_MAX_BYTES });
      copies.push({ name, bytes, manifest: site.format.readManifest(bytes, { signers, expect }) });
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error;
      found.push(problemOf(error, at(name, key)));
    }
  }
  const { right, wrong } = await judgeKeys(copies, ({ manifest }) => opensHere(site, manifest));
  for (const [copy, problem] of wrong)
    found.push({ ...at(copy.name, key), kind: kindOf(copy, right), problem });
  const proved = right === null ? null : await proofOf(site, right, found, key);
  const sha256 = proved === null ? null : createHash("sha256").update(proved.bytes).digest("hex");
  return found
    .filter(({ storage }) => storages.some(({ name }) => name === storage))
    .map((problem) => ({ ...problem, sha256, bytes: proved?.bytes.length ?? null }));
}

const at = (storage: string, path: string) => ({ backupId: null, storage, path, sha256: null, bytes: null });

/** The host keeps the key of the day as it was sealed first, and gives that to a storage that was away during a rotation. */
const kindOf = ({ manifest }: Copy, right: Copy | null): Problem["kind"] =>
  manifest.keysAre === "signed" && right !== null ? "damaged" : "tampered";

/** What is going to be copied must open, or be signed; where nothing here can tell, only what is missing is made up for. */
async function proofOf(site: Site, right: Copy, found: Problem[], key: string): Promise<Copy | null> {
  if (right.manifest.keysAre === "signed") return right;
  const opens = await opensHere(site, right.manifest);
  if (opens === "no") found.push({ ...at(right.name, key), kind: "damaged", problem: "does not open" });
  const isOnlyMissing = found.every(({ kind }) => kind === "missing");
  return opens === "yes" || (opens === "unknown" && isOnlyMissing) ? right : null;
}
