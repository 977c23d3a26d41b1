import type { B2StorageConfig } from "../domain/config.js";
import { isJBackupError } from "../domain/errors.js";
import type { ProbedRights, Right } from "../domain/rights.js";
import { b2Failure, isRefusal } from "./b2Failures.js";
import { B2Session } from "./b2Session.js";
import { type B2Target, encodedName, UploadUrls, uploadWhole } from "./b2Upload.js";
import { keyPlace } from "./key.js";
import type { OpenOptions } from "./open.js";
import { NOT_TRIED, probeBody } from "./rights.js";

/** Every put makes a version in B2, so that overwriting by itself destroys nothing: what counts is who may delete versions. */
export async function probeB2Rights(
  config: B2StorageConfig,
  options: OpenOptions,
  key: string,
): Promise<ProbedRights> {
  const session = await B2Session.open(config, options.idleMs ?? 20_000);
  const place = keyPlace(config.prefix);
  const fileName = place.inside(key);
  const deed = { storage: config.name, verb: "put", key } as const;
  const tryIt = async (work: () => Promise<unknown>): Promise<Right> => {
    try {
      await work();
      return "yes";
    } catch (error) {
      // a key without the right is told 401 "unauthorized"; what a lock holds, 4xx as well
      if (isRefusal(error, 401, 403) && !error.isExpiredToken) return "no";
      if (isRefusal(error, 400) && /lock|retention|hold/i.test(`${error.code} ${error.message}`)) return "no";
      throw b2Failure(error, deed, options.clock.now());
    }
  };
  const target: B2Target = { session, fileName, deed, signal: undefined };
  const urls = new UploadUrls(() => session.call((b2, { bucketId }) => b2.getUploadUrl({ bucketId })));
  const uploaded: string[] = [];
  const upload = (nth: 0 | 1) => async (): Promise<void> => {
    uploaded.push(await uploadWhole(target, probeBody(nth), urls));
  };
  const listing = (prefix: string) => () =>
    session.call((b2, { bucketId }) =>
      b2.listFileNames({ bucketId, prefix, startFileName: prefix, maxFileCount: 1 }),
    );
  try {
    // a key that is no good is told so here, not by the first thing that it may not do
    await session.account().catch((error: unknown) => {
      throw isJBackupError(error) ? error : b2Failure(error, deed, options.clock.now());
    });
    const write = await tryIt(upload(0));
    if (write !== "yes") return { write, ...NOT_TRIED };
    const read = await tryIt(async () =>
      (await session.download(encodedName(fileName), {}, undefined)).resume(),
    );
    const list = await tryIt(listing(place.inside("backups/")));
    const listOutside = config.prefix === "" ? "unknown" : await tryIt(listing(""));
    const overwrite = await tryIt(upload(1));
    let deleteVersion: Right = "unknown";
    for (const fileId of uploaded)
      deleteVersion = await tryIt(() => session.call((b2) => b2.deleteFileVersion({ fileId, fileName })));
    return {
      write,
      read,
      list,
      overwrite,
      delete: deleteVersion,
      deleteVersion,
      listOutside,
      versioning: "yes",
      objectLock: await lockOf(session, config.bucket),
      left: deleteVersion === "yes" ? [] : [key],
    };
  } finally {
    session.close();
  }
}

interface LockedBucket {
  bucketName: string;
  fileLockConfiguration?: { isClientAuthorizedToRead: boolean; value: { isFileLockEnabled: boolean } | null };
}

async function lockOf(session: B2Session, bucketName: string): Promise<Right> {
  try {
    const { buckets } = await session.call((b2) => b2.getBucket({ bucketName }));
    return lockIn(buckets as unknown as LockedBucket[], bucketName);
  } catch {
    return "unknown"; // to ask needs a right of its own, and what a probe could not delete says as much
  }
}

function lockIn(buckets: LockedBucket[], bucketName: string): Right {
  const lock = buckets.find((bucket) => bucket.bucketName === bucketName)?.fileLockConfiguration;
  if (lock?.isClientAuthorizedToRead !== true || lock.value === null) return "unknown";
  return lock.value.isFileLockEnabled ? "yes" : "no";
}
