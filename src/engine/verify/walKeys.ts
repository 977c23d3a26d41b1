import { createHash } from "node:crypto";
import { JBackupError } from "../../domain/errors.js";
import { parseEpochKey } from "../../domain/wal.js";
import type { Site } from "../site.js";
import { trustedSigners } from "../siteKeys.js";
import { type Problem, problemOf } from "./problem.js";
import type { Survey } from "./survey.js";
import { missing } from "./walNames.js";

/** The keys of the WAL: without them a storage's copies of it open for nobody. Every storage that holds WAL holds all of them. */
export async function checkKeys(site: Site, { storages, listed }: Survey): Promise<Problem[]> {
  const signers = await trustedSigners(site);
  const keys = new Set(
    [...listed.values()].flatMap((found) => [...found.keys()].filter((key) => parseEpochKey(key) !== null)),
  );
  const problems: Problem[] = [];
  for (const key of keys) {
    site.signal.throwIfAborted();
    const found: Problem[] = [];
    let right: Buffer | null = null;
    for (const storage of storages) {
      if (!listed.get(storage.name)?.has(key)) {
        found.push(missing(storage.name, key));
        continue;
      }
      try {
        const bytes = await site.storage.readAll(storage, key, { maxBytes: site.format.MANIFEST_MAX_BYTES });
        const backupId = parseEpochKey(key) as string;
        site.format.readManifest(bytes, { signers, expect: { site: site.config.site, backupId } });
        right ??= bytes;
      } catch (error) {
        site.signal.throwIfAborted();
        if (!(error instanceof JBackupError)) throw error;
        found.push(
          problemOf(error, { backupId: null, storage: storage.name, path: key, sha256: null, bytes: null }),
        );
      }
    }
    const sha256 = right === null ? null : createHash("sha256").update(right).digest("hex");
    problems.push(...found.map((problem) => ({ ...problem, sha256, bytes: right?.length ?? null })));
  }
  return problems;
}
