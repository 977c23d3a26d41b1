import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { storageFailure } from "./failures.js";
import { partsOf, sendParts } from "./parts.js";
import type { S3Target } from "./s3.js";
import { isStatus } from "./s3Failures.js";
import { sendBody } from "./s3Send.js";
import type { ObjectBody } from "./storage.js";

const ABORT_WITHIN_MS = 5_000;
const ABORT_ATTEMPTS = 4;

type SentPart = { PartNumber: number; ETag: string };

/** A body in one request. */
export async function putWhole(target: S3Target, body: ObjectBody): Promise<void> {
  const put = {
    Bucket: target.bucket,
    Key: target.objectKey,
    ContentType: "application/octet-stream",
    Metadata: { sha256: body.sha256 },
    ...(target.writeOnce ? { IfNoneMatch: "*" } : {}),
  };
  await sendParts({
    body,
    parts: partsOf(body.bytes, Math.max(1, body.bytes)),
    parallel: 1,
    algorithm: "sha256",
    deed: target.deed,
    signal: target.signal,
    send: (part, sha256, signal) =>
      sendBody(
        { ...target, signal },
        body,
        part,
        sha256,
        (sent) => new PutObjectCommand({ ...put, ...sent }),
      ),
  });
}

/** A long body in equal parts. Nothing is visible before the last step, and a failure takes the parts away again. */
export async function putInParts(
  target: S3Target,
  body: ObjectBody,
  how: { partBytes: number; parallel: number },
): Promise<void> {
  const { client, bucket: Bucket, objectKey: Key, deed, signal } = target;
  const { UploadId } = await client.send(
    new CreateMultipartUploadCommand({
      Bucket,
      Key,
      ContentType: "application/octet-stream",
      Metadata: { sha256: body.sha256 },
    }),
    signal === undefined ? {} : { abortSignal: signal },
  );
  if (UploadId === undefined)
    throw storageFailure("storage_unavailable", deed, "the server began no multipart upload");
  try {
    const parts = await sendParts<SentPart>({
      body,
      parts: partsOf(body.bytes, how.partBytes),
      parallel: how.parallel,
      algorithm: "sha256",
      deed,
      signal,
      send: async (part, sha256, partSignal) => {
        const upload = { Bucket, Key, UploadId, PartNumber: part.number };
        const to = { ...target, signal: partSignal };
        const { ETag } = await sendBody(
          to,
          body,
          part,
          sha256,
          (sent) => new UploadPartCommand({ ...upload, ...sent }),
        );
        if (ETag === undefined)
          throw storageFailure("storage_unavailable", deed, `part ${part.number} was not acknowledged`);
        return { PartNumber: part.number, ETag };
      },
    });
    await complete(target, UploadId, parts);
  } catch (error) {
    await abort(target, UploadId);
    throw error;
  }
}

async function complete(target: S3Target, UploadId: string, parts: SentPart[]): Promise<void> {
  const { client, bucket: Bucket, objectKey: Key, deed, signal } = target;
  const { ETag } = await client.send(
    new CompleteMultipartUploadCommand({
      Bucket,
      Key,
      UploadId,
      MultipartUpload: { Parts: parts },
      ...(target.writeOnce ? { IfNoneMatch: "*" } : {}),
    }),
    signal === undefined ? {} : { abortSignal: signal },
  );
  if (ETag === undefined)
    throw storageFailure("storage_unavailable", deed, "the server did not confirm the parts put together");
  const counted = ETag.match(/-(\d+)"?$/)?.[1];
  if (counted !== undefined && Number(counted) !== parts.length)
    throw storageFailure(
      "storage_unavailable",
      deed,
      `the server put ${counted} of ${parts.length} parts together`,
    );
}

/** As far as it goes: the failure that led here is the one to report, and sweep ends what stays behind. */
async function abort(target: S3Target, UploadId: string): Promise<void> {
  const command = new AbortMultipartUploadCommand({ Bucket: target.bucket, Key: target.objectKey, UploadId });
  const abortSignal = AbortSignal.timeout(ABORT_WITHIN_MS);
  // The failure may have left broken connections in the pool; each attempt uses one up.
  for (let attempt = 1; attempt <= ABORT_ATTEMPTS; attempt++) {
    const isDone = await target.client.send(command, { abortSignal }).then(
      () => true,
      (error: unknown) => isStatus(error, 404) || abortSignal.aborted,
    );
    if (isDone) return;
  }
}

export async function abortStaleUploads(
  where: { client: S3Client; bucket: string; prefix: string },
  beforeMs: number,
): Promise<number> {
  const { client, bucket: Bucket, prefix: Prefix } = where;
  let aborted = 0;
  for (let next: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {}; ; ) {
    const page = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix, ...next }));
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (!Key?.startsWith(Prefix) || Initiated === undefined || Initiated.getTime() > beforeMs) continue;
      await client
        .send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
        .catch((error: unknown) => {
          if (!isStatus(error, 404)) throw error;
        });
      aborted++;
    }
    if (page.IsTruncated !== true) return aborted;
    next = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
  }
}
