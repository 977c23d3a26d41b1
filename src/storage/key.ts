import { JBackupError } from "../domain/errors.js";

const SEGMENT = /^[A-Za-z0-9._-]{1,200}$/;
const LONGEST_KEY = 700;

export const isKeySegment = (segment: string): boolean =>
  SEGMENT.test(segment) && segment !== "." && segment !== "..";

/** Whether jbackup may have stored something under this name: anything else in a bucket is not ours. */
export const isKey = (name: string): boolean =>
  name.length <= LONGEST_KEY && name.split("/").every(isKeySegment);

/** The key, when it is one: a relative path that every kind of storage takes as it stands and none can be led astray by. */
export function checkKey(key: string): string {
  if (isKey(key)) return key;
  throw new JBackupError("bug", `${JSON.stringify(key)} is not an object key`, {
    hint: "Please report this with the command that led here.",
  });
}

/** A prefix is the beginning of some key, cut anywhere; the empty one covers everything. */
export function checkPrefix(prefix: string): string {
  const segments = prefix.split("/");
  const last = segments.pop() ?? "";
  const lastIsFine = last === "" || isKeySegment(last) || last === "." || last === "..";
  if (segments.every(isKeySegment) && lastIsFine && prefix.length <= LONGEST_KEY) return prefix;
  throw new JBackupError("bug", `${JSON.stringify(prefix)} is not the beginning of an object key`, {
    hint: "Please report this with the command that led here.",
  });
}

/** Keys live below the configured prefix of a bucket; this turns one into the other. */
export interface KeyPlace {
  inside(keyOrPrefix: string): string;
  outside(name: string): string;
}

export function keyPlace(configuredPrefix: string): KeyPlace {
  const trimmed = configuredPrefix.replace(/^\/+|\/+$/g, "");
  const base = trimmed === "" ? "" : `${trimmed}/`;
  return {
    inside: (keyOrPrefix) => base + keyOrPrefix,
    outside: (name) => name.slice(base.length),
  };
}
