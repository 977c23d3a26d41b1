import type { S3ServiceException } from "@aws-sdk/client-s3";
import { isJBackupError } from "../domain/errors.js";
import {
  type Deed,
  isNetworkError,
  objectMissing,
  plainCause,
  retryAfterMs,
  storageFailure,
} from "./failures.js";

const DENIED = new Set([
  "AccessDenied",
  "InvalidAccessKeyId",
  "SignatureDoesNotMatch",
  "ExpiredToken",
  "InvalidToken",
  "AccountProblem",
  "AllAccessDisabled",
  "NotEntitled",
  "Unauthorized",
  "Forbidden",
  "CredentialsProviderError",
]);
const FULL = new Set([
  "QuotaExceeded",
  "InsufficientStorage",
  "InsufficientCapacity",
  "XMinioStorageFull",
  "ServiceQuotaExceeded",
]);
/** 4xx that may pass: the bytes were damaged on the way, or another writer was at work at the same moment. */
const PASSING = new Set([
  "BadDigest",
  "XAmzContentSHA256Mismatch",
  "IncompleteBody",
  "RequestTimeout",
  "ConditionalRequestConflict",
  "OperationAborted",
  "NoSuchUpload",
  "SlowDown",
  "Throttling",
  "TooManyRequests",
  "InternalError",
  "ServiceUnavailable",
]);

export const statusOf = (error: unknown): number | undefined =>
  (error as Partial<S3ServiceException> | null)?.$metadata?.httpStatusCode;

export const isStatus = (error: unknown, ...statuses: number[]): boolean =>
  statuses.includes(statusOf(error) ?? 0);

/** A conditional write found an object there already. */
export const isTaken = (error: unknown): boolean =>
  (error as { name?: string } | null)?.name === "PreconditionFailed" || isStatus(error, 412);

export const isNotImplemented = (error: unknown): boolean =>
  (error as { name?: string } | null)?.name === "NotImplemented" || isStatus(error, 501);

/** What the SDK threw, in our words. Things that are not about the storage pass unchanged. */
export function s3Failure(error: unknown, deed: Deed, now: Date): unknown {
  if (isJBackupError(error)) return error;
  const { name = "", $response } = error as Partial<S3ServiceException>;
  const status = statusOf(error);
  const cause = plainCause(error);
  const reason = `${status === undefined ? "" : `HTTP ${status} `}${name === "Error" ? "" : `${name}: `}${cause.message}`;
  const pausing = retryAfterMs($response?.headers?.["retry-after"], now);
  const details = pausing === undefined ? {} : { retryAfterMs: pausing };
  if (name === "NoSuchBucket") return storageFailure("not_found", deed, "no such bucket", { cause });
  if (FULL.has(name) || status === 507) return storageFailure("storage_full", deed, reason, { cause });
  if (name === "RequestTimeTooSkewed")
    return storageFailure("storage_denied", deed, reason, { cause, hint: "Set this host's clock right." });
  if (PASSING.has(name)) return storageFailure("storage_unavailable", deed, reason, { cause, details });
  if (DENIED.has(name) || status === 401 || status === 403)
    return storageFailure("storage_denied", deed, reason, { cause });
  if (name === "NoSuchKey" || (status === 404 && deed.key !== ""))
    return objectMissing(deed.storage, deed.key);
  if (status === 416) return storageFailure("object_truncated", deed, "the object ends before the range");
  if (isNetworkError(error)) return storageFailure("storage_unavailable", deed, reason, { cause });
  // No status, or an error inside an answer that began as a success: the server did not do it, it may the next time.
  if (status === undefined) return error;
  if (status === 429 || status === 408 || status >= 500 || status < 400)
    return storageFailure("storage_unavailable", deed, reason, { cause, details });
  return storageFailure("storage_denied", deed, reason, {
    cause,
    hint: "This server does not accept the request: is it an S3 API, and are bucket and region right?",
  });
}
