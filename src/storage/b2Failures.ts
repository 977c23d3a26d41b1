import type { IncomingHttpHeaders } from "node:http";
import { isJBackupError, reasonOf } from "../domain/errors.js";
import {
  type Deed,
  isNetworkError,
  objectMissing,
  plainCause,
  retryAfterMs,
  storageFailure,
} from "./failures.js";

/** An answer by which B2 refused something: `{status, code, message}` in JSON, whatever request it was for. */
export class B2Refusal extends Error {
  override readonly name = "B2Refusal";
  readonly status: number;
  readonly code: string;
  readonly retryAfter: string | undefined;

  constructor(status: number, body: unknown, headers: IncomingHttpHeaders) {
    const { code, message } = (typeof body === "object" && body !== null ? body : {}) as Record<
      string,
      unknown
    >;
    super(typeof message === "string" ? message : "");
    this.status = status;
    this.code = typeof code === "string" ? code : "";
    this.retryAfter = headers["retry-after"];
  }

  /** Tokens live for a day at most; a new one may be had with the key. */
  get isExpiredToken(): boolean {
    return this.status === 401 && ["expired_auth_token", "bad_auth_token"].includes(this.code);
  }

  get isPassing(): boolean {
    // A digest that does not match was damaged on the way: B2 has no code of its own for it.
    return (
      this.status === 408 ||
      this.status === 429 ||
      this.status >= 500 ||
      (this.status === 400 && /sha1/i.test(this.message))
    );
  }
}

export const isRefusal = (error: unknown, ...statuses: number[]): error is B2Refusal =>
  error instanceof B2Refusal && statuses.includes(error.status);

/** The package throws axios errors, which carry the request with its credentials: only the answer is kept. */
export function withoutRequest(error: unknown): unknown {
  const { isAxiosError, response } = error as {
    isAxiosError?: boolean;
    response?: { status: number; data: unknown; headers: IncomingHttpHeaders };
  };
  if (isAxiosError !== true) return error;
  if (response !== undefined) return new B2Refusal(response.status, response.data, response.headers);
  return Object.assign(plainCause(error), { code: (error as { code?: string }).code });
}

/** What B2 answered, in our words. Things that are not about the storage pass unchanged. */
export function b2Failure(error: unknown, deed: Deed, now: Date): unknown {
  if (isJBackupError(error)) return error;
  if (!(error instanceof B2Refusal))
    return isNetworkError(error)
      ? storageFailure("storage_unavailable", deed, plainCause(error).message, { cause: plainCause(error) })
      : error;
  const { status, code } = error;
  const reason = `HTTP ${status}${code === "" ? "" : ` ${code}`}${error.message === "" ? "" : `: ${reasonOf(error)}`}`;
  if (error.isPassing) {
    const pausing = retryAfterMs(error.retryAfter, now);
    return storageFailure("storage_unavailable", deed, reason, {
      details: pausing === undefined ? {} : { retryAfterMs: pausing },
    });
  }
  if (code.endsWith("cap_exceeded"))
    return storageFailure("storage_denied", deed, reason, {
      hint: "The account's cap is reached: raise it under Caps & Alerts at Backblaze, or wait until it is reset at midnight UTC.",
    });
  if (code === "bad_bucket_id" || code === "invalid_bucket_id")
    return storageFailure("not_found", deed, "no such bucket");
  if (status === 404 || code === "no_such_file") return objectMissing(deed.storage, deed.key);
  if (status === 416) return storageFailure("object_truncated", deed, "the object ends before the range");
  return storageFailure("storage_denied", deed, reason);
}
