import {
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import type { S3StorageConfig } from "../domain/config.js";
import type { ProbedRights, Right } from "../domain/rights.js";
import { storageFailure } from "./failures.js";
import { type KeyPlace, keyPlace } from "./key.js";
import type { OpenOptions } from "./open.js";
import { NOT_TRIED, PROBE_CONTENTS } from "./rights.js";
import { s3Client } from "./s3.js";
import { isNotImplemented, isStatus, s3Failure, statusOf } from "./s3Failures.js";

interface Probe {
  client: S3Client;
  Bucket: string;
  Key: string;
  place: KeyPlace;
  fail(error: unknown): unknown;
}

/** Past the storage's own carefulness: it never overwrites, and so would prove nothing. */
export async function probeS3Rights(
  config: S3StorageConfig,
  options: OpenOptions,
  key: string,
): Promise<ProbedRights> {
  const client = await s3Client(config, options.idleMs ?? 20_000);
  const place = keyPlace(config.prefix);
  const deed = { storage: config.name, verb: "put", key } as const;
  const probe: Probe = {
    client,
    Bucket: config.bucket,
    Key: place.inside(key),
    place,
    fail: (error) =>
      isStatus(error, 404)
        ? storageFailure("not_found", { ...deed, key: "" }, `no such bucket: ${config.bucket}`)
        : s3Failure(error, deed, options.clock.now()),
  };
  try {
    const first = await put(probe, PROBE_CONTENTS[0]);
    if (first.right !== "yes") return { write: first.right, ...NOT_TRIED };
    return await probeStored(probe, first.versionId, key, config.prefix !== "");
  } finally {
    client.destroy();
  }
}

async function probeStored(
  probe: Probe,
  versionId: string | undefined,
  key: string,
  hasPrefix: boolean,
): Promise<ProbedRights> {
  const { Bucket, Key, place } = probe;
  const read = await tryIt(probe, (client) => client.send(new GetObjectCommand({ Bucket, Key })));
  const list = await tryIt(probe, (client) =>
    client.send(new ListObjectsV2Command({ Bucket, Prefix: place.inside("backups/"), MaxKeys: 1 })),
  );
  const listOutside = hasPrefix
    ? await tryIt(probe, (client) =>
        client.send(new ListObjectsV2Command({ Bucket, Prefix: "", MaxKeys: 1 })),
      )
    : "unknown";
  const second = await put(probe, PROBE_CONTENTS[1]);
  const isVersioned = versionId !== undefined && versionId !== "null";
  const versioning = isVersioned ? "yes" : await versioningOf(probe);
  const deleteVersion = isVersioned
    ? await tryIt(probe, (client) =>
        client.send(new DeleteObjectCommand({ Bucket, Key, VersionId: versionId })),
      )
    : "unknown";
  const removed = await deleted(probe, isVersioned);
  if (isVersioned && second.versionId !== undefined)
    await tryIt(probe, (client) =>
      client.send(new DeleteObjectCommand({ Bucket, Key, VersionId: second.versionId })),
    );
  const isGone = removed === "yes" && (!isVersioned || deleteVersion === "yes");
  return {
    write: "yes",
    read,
    list,
    overwrite: second.right,
    delete: removed,
    deleteVersion,
    listOutside,
    versioning,
    objectLock: await lockOf(probe),
    left: isGone ? [] : [key],
  };
}

async function put(
  { client, Bucket, Key, fail }: Probe,
  Body: Buffer,
): Promise<{ right: Right; versionId: string | undefined }> {
  try {
    const { VersionId } = await client.send(new PutObjectCommand({ Bucket, Key, Body }));
    return { right: "yes", versionId: VersionId };
  } catch (error) {
    return { right: refusal(error, fail), versionId: undefined };
  }
}

async function tryIt({ client, fail }: Probe, ask: (client: S3Client) => Promise<unknown>): Promise<Right> {
  try {
    await ask(client);
    return "yes";
  } catch (error) {
    return refusal(error, fail);
  }
}

/** Some servers say yes and keep it all the same. With versions a marker was made, which is one more to take away. */
async function deleted(probe: Probe, isVersioned: boolean): Promise<Right> {
  const { client, Bucket, Key, fail } = probe;
  try {
    const { VersionId, DeleteMarker } = await client.send(new DeleteObjectCommand({ Bucket, Key }));
    if (isVersioned && DeleteMarker === true && VersionId !== undefined) {
      await tryIt(probe, (client) => client.send(new DeleteObjectCommand({ Bucket, Key, VersionId })));
      return "yes";
    }
  } catch (error) {
    return refusal(error, fail);
  }
  try {
    await client.send(new HeadObjectCommand({ Bucket, Key }));
    return "no";
  } catch (error) {
    return isStatus(error, 404) ? "yes" : "unknown";
  }
}

async function versioningOf({ client, Bucket }: Probe): Promise<Right> {
  try {
    const { Status } = await client.send(new GetBucketVersioningCommand({ Bucket }));
    return Status === "Enabled" ? "yes" : "no";
  } catch {
    return "unknown"; // to ask needs a right of its own; whether a put made a version says as much
  }
}

async function lockOf({ client, Bucket }: Probe): Promise<Right> {
  try {
    const { ObjectLockConfiguration } = await client.send(new GetObjectLockConfigurationCommand({ Bucket }));
    return ObjectLockConfiguration?.ObjectLockEnabled === "Enabled" ? "yes" : "no";
  } catch (error) {
    return (error as { name?: string }).name === "ObjectLockConfigurationNotFoundError" ? "no" : "unknown";
  }
}

/** 403, but also what servers answer for what a lock holds; anything that is no answer to the wish is thrown. */
function refusal(error: unknown, fail: (error: unknown) => unknown): Right {
  if (isNotImplemented(error) || isStatus(error, 405)) return "unknown";
  if (isStatus(error, 403, 409, 412, 423) && (error as { name?: string }).name !== "RequestTimeTooSkewed")
    return isCredentialTrouble(error) ? thrown(fail(error)) : "no";
  if (statusOf(error) === 400 && /lock|retention|worm/i.test(String((error as Error).message))) return "no";
  return thrown(fail(error));
}

/** These say that nobody was recognised, and nothing about rights. */
const isCredentialTrouble = (error: unknown): boolean =>
  ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"].includes(
    (error as { name?: string }).name ?? "",
  );

function thrown(error: unknown): never {
  throw error;
}
