/** Checks of untrusted JSON, each a question about one value. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;

export const isSha256 = (value: unknown): value is string =>
  typeof value === "string" && /^[0-9a-f]{64}$/.test(value);

export const isText = (value: unknown, maxLength: number): value is string =>
  typeof value === "string" && value.length > 0 && value.length <= maxLength;

export const isTime = (value: unknown): value is string =>
  typeof value === "string" &&
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(value) &&
  !Number.isNaN(Date.parse(value));

export const isLsn = (value: unknown): value is string =>
  typeof value === "string" && /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(value);

/** Base64 in its one spelling, of exactly so many bytes. */
export function isBase64(value: unknown, bytes: number): value is string {
  if (typeof value !== "string" || value.length > 2 * bytes + 8) return false;
  const decoded = Buffer.from(value, "base64");
  return decoded.length === bytes && decoded.toString("base64") === value;
}

/** Beyond this depth no part of a manifest is nested, and recursion stays harmless. */
const DEPTH_MAX = 64;

export const isShallow = (value: unknown, depth = 0): boolean =>
  typeof value !== "object" ||
  value === null ||
  (depth < DEPTH_MAX && Object.values(value).every((inner) => isShallow(inner, depth + 1)));
