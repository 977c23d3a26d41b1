import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { B2Refusal, b2Failure, withoutRequest } from "../../src/storage/b2Failures.js";
import { plainCause, retryAfterMs } from "../../src/storage/failures.js";
import { partsOf } from "../../src/storage/parts.js";
import { s3Failure } from "../../src/storage/s3Failures.js";

const now = new Date("2026-11-20T02:00:00Z");
const deed = { storage: "r2", verb: "put", key: "a/b" } as const;
const codeOf = (error: unknown): string => (error as { code?: string }).code ?? "";

describe("Retry-After", () => {
  test.each([
    ["0", 0],
    ["17", 17_000],
    ["1.5", 1500],
    ["Fri, 20 Nov 2026 02:00:30 GMT", 30_000],
    ["Fri, 20 Nov 2026 01:00:00 GMT", 0],
    ["soon", undefined],
    ["", undefined],
    [undefined, undefined],
  ])("%j means %s ms", (header, expected) => expect(retryAfterMs(header, now)).toBe(expected));
});

describe("a failure of an S3 API", () => {
  test.each([
    ["AccessDenied", 403, "storage_denied"],
    ["RequestTimeTooSkewed", 403, "storage_denied"],
    ["Unknown", 401, "storage_denied"],
    ["InvalidRequest", 400, "storage_denied"],
    ["NoSuchBucket", 404, "not_found"],
    ["NoSuchKey", 404, "object_missing"],
    ["NoSuchUpload", 404, "storage_unavailable"],
    ["RequestTimeout", 400, "storage_unavailable"],
    ["BadDigest", 400, "storage_unavailable"],
    ["ConditionalRequestConflict", 409, "storage_unavailable"],
    ["SlowDown", 503, "storage_unavailable"],
    ["TooManyRequests", 429, "storage_unavailable"],
    ["InternalError", 200, "storage_unavailable"],
    ["BadGateway", 502, "storage_unavailable"],
    ["QuotaExceeded", 403, "storage_full"],
    ["InsufficientStorage", 507, "storage_full"],
  ])("%s with HTTP %i is %s", (name, httpStatusCode, expected) => {
    const error = Object.assign(new Error("no"), { name, $metadata: { httpStatusCode } });
    expect(codeOf(s3Failure(error, deed, now))).toBe(expected);
  });

  test("says what failed on which object", () => {
    const error = Object.assign(new Error("Access Denied."), {
      name: "AccessDenied",
      $metadata: { httpStatusCode: 403 },
    });
    expect(s3Failure(error, deed, now)).toMatchObject({
      message: "storage r2: put a/b failed: HTTP 403 AccessDenied: Access Denied.",
      hint: "Check the credentials and permissions of this storage in jbackup.yaml, then run `jbackup storages check`.",
      details: { storage: "r2", key: "a/b" },
    });
  });

  test("that is a mistake of ours stays one", () => {
    const mistake = new TypeError("x is not a function");
    expect(s3Failure(mistake, deed, now)).toBe(mistake);
    expect(b2Failure(mistake, deed, now)).toBe(mistake);
  });
});

describe("a refusal by B2", () => {
  test.each([
    [401, "unauthorized", "storage_denied"],
    [401, "expired_auth_token", "storage_denied"],
    [403, "storage_cap_exceeded", "storage_denied"],
    [403, "transaction_cap_exceeded", "storage_denied"],
    [400, "bad_request", "storage_denied"],
    [400, "bad_bucket_id", "not_found"],
    [404, "not_found", "object_missing"],
    [416, "range_not_satisfiable", "object_truncated"],
    [408, "request_timeout", "storage_unavailable"],
    [429, "too_many_requests", "storage_unavailable"],
    [500, "internal_error", "storage_unavailable"],
    [503, "service_unavailable", "storage_unavailable"],
  ])("with HTTP %i %s is %s", (status, code, expected) => {
    expect(codeOf(b2Failure(new B2Refusal(status, { code }, {}), deed, now))).toBe(expected);
  });

  test("keeps nothing of the request that carried the credentials", () => {
    const axiosError = Object.assign(new Error("Request failed"), {
      isAxiosError: true,
      config: { headers: { Authorization: "secret" } },
      response: { status: 403, data: { code: "access_denied", message: "no" }, headers: {} },
    });
    expect(inspect(withoutRequest(axiosError), { depth: 9 })).not.toContain("secret");
    expect(
      inspect(withoutRequest({ ...axiosError, message: "broken", response: undefined }), { depth: 9 }),
    ).not.toContain("secret");
  });
});

test("a refused connection has words, though Node gives it none", () => {
  const error = Object.assign(
    new AggregateError([
      new Error("connect ECONNREFUSED ::1:9"),
      new Error("connect ECONNREFUSED 127.0.0.1:9"),
    ]),
    {
      code: "ECONNREFUSED",
    },
  );
  expect(plainCause(error).message).toBe("connect ECONNREFUSED 127.0.0.1:9");
});

test("parts are equal but for the last, and never too many", () => {
  expect(partsOf(25, 10)).toEqual([
    { number: 1, start: 0, end: 10 },
    { number: 2, start: 10, end: 20 },
    { number: 3, start: 20, end: 25 },
  ]);
  expect(partsOf(0, 10)).toEqual([{ number: 1, start: 0, end: 0 }]);
  expect(partsOf(5_000_000, 10).length).toBe(10_000);
});
