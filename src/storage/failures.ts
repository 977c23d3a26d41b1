import { JBackupError, reasonOf } from "../domain/errors.js";
import type { ByteRange, ObjectBody } from "./storage.js";

/** What was being done, for messages: `storage r2: put a/b failed: ...`. */
export interface Deed {
  storage: string;
  verb: "put" | "get" | "stat" | "list" | "delete" | "sweep" | "reach";
  key: string;
}

const deedText = (deed: Deed): string =>
  `storage ${deed.storage}: ${deed.verb}${deed.key === "" ? "" : ` ${deed.key}`}`;

type StorageFailure =
  | "storage_unavailable"
  | "storage_denied"
  | "storage_full"
  | "not_found"
  | "object_truncated";

const HINTS: Record<StorageFailure, string> = {
  storage_unavailable: "Run `jbackup storages check`; what is missing is copied later from a finished copy.",
  storage_denied:
    "Check the credentials and permissions of this storage in jbackup.yaml, then run `jbackup storages check`.",
  storage_full:
    "Free some space or raise the quota; `jbackup cleanup --dry-run` shows what retention would remove.",
  not_found: "Check where this storage points to in jbackup.yaml, then run `jbackup storages check`.",
  object_truncated: "Run `jbackup verify --heal` to replace this copy by a good one.",
};

export const storageFailure = (
  code: StorageFailure,
  deed: Deed,
  reason: string,
  parts: { cause?: unknown; hint?: string; details?: Record<string, unknown> } = {},
): JBackupError =>
  new JBackupError(code, `${deedText(deed)} failed: ${reason}`, {
    hint: parts.hint ?? HINTS[code],
    cause: parts.cause,
    details: { storage: deed.storage, key: deed.key, ...parts.details },
  });

export const objectMissing = (storage: string, key: string): JBackupError =>
  new JBackupError("object_missing", `storage ${storage} has no object ${key}`, {
    hint: HINTS.object_truncated,
    details: { storage, key },
  });

export const objectExists = (storage: string, key: string): JBackupError =>
  new JBackupError("object_exists", `storage ${storage} already holds another object under ${key}`, {
    hint: "Objects are never overwritten: run `jbackup verify` to find out which of the two is right.",
    details: { storage, key },
  });

export const endsTooEarly = (deed: Deed, got: number, wanted: number): JBackupError =>
  storageFailure("object_truncated", deed, `the object ends after ${got} of ${wanted} bytes`);

/** The body given to a put is not what it claims to be: never stored. */
export const bodyChanged = (deed: Deed, body: ObjectBody): JBackupError =>
  new JBackupError(
    "object_corrupt",
    `${deedText(deed)} refused: the body is not the ${body.bytes} bytes it claims to be`,
    {
      hint: "Something changed or damaged the file while it was being stored; run the backup again.",
      details: { storage: deed.storage, key: deed.key },
    },
  );

const NETWORK_ERRORS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
  "EHOSTDOWN",
  "EADDRNOTAVAIL",
  "EMFILE",
  "ENFILE",
  "EPROTO",
  "TimeoutError",
  "ERR_BAD_RESPONSE",
]);
const TLS_ERRORS =
  /^(ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA|HPE_)/;

/** The connection failed, whatever the protocol spoken over it. */
export const isNetworkError = (error: unknown): boolean => {
  const { code, name } = error as { code?: string; name?: string };
  return NETWORK_ERRORS.has(code ?? "") || NETWORK_ERRORS.has(name ?? "") || TLS_ERRORS.test(code ?? "");
};

/**
 * Clients hang requests with signed headers on their errors, and refused connections to several addresses have no
 * message of their own: keep the words, drop the rest.
 */
export function plainCause(error: unknown): Error {
  const { code, errors } = error as { code?: string; errors?: unknown[] };
  const inner = Array.isArray(errors) && errors.length > 0 ? reasonOf(errors.at(-1)) : "";
  return new Error(reasonOf(error) || inner || code || "unknown error");
}

/** Retry-After comes as seconds or as a date. */
export function retryAfterMs(header: string | undefined, now: Date): number | undefined {
  if (header === undefined || header === "") return undefined;
  if (/^\d+(\.\d+)?$/.test(header)) return Math.round(Number(header) * 1000);
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now.getTime());
}

export function checkRange(range: ByteRange): ByteRange {
  if (
    Number.isSafeInteger(range.start) &&
    Number.isSafeInteger(range.end) &&
    range.start >= 0 &&
    range.end >= range.start
  )
    return range;
  throw new JBackupError("bug", `${range.start}..${range.end} is not a range of bytes`, {
    hint: "Please report this with the command that led here.",
  });
}
