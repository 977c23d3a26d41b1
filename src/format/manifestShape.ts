import type { KeysSignature, ManifestBody, StoredObject, WrappedKey } from "../domain/manifest.js";
import { isObjectName } from "./names.js";
import { isBase64, isCount, isLsn, isRecord, isSha256, isShallow, isText, isTime } from "./shape.js";
import { decodeKey } from "./text.js";
import { isPayable } from "./wrap.js";

type Check = (value: unknown) => boolean;

const SHORT = 512;
const LONG = 65_536;
const OBJECTS_MAX = 1_000_000;
const NEEDS_MAX = 10_000;
const KEYS_MAX = 64;
/** Each costs the reader a quarter of a second, or many times that if somebody wishes it so. */
const PASSPHRASE_KEYS_MAX = 8;
const WARNINGS_MAX = 10_000;

/** Ids become parts of paths. */
const isId: Check = (value) => isText(value, 128) && /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(value);
const isShort: Check = (value) => isText(value, SHORT) && !/\p{Cc}/u.test(value);
/** Stands in every container header, which has a limit in bytes. */
const isName: Check = (value) => isShort(value) && Buffer.byteLength(value as string) <= 1024;
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
const oneOf =
  (...words: string[]): Check =>
  (value) =>
    words.includes(value as string);

const BODY: Record<keyof Required<ManifestBody>, Check> = {
  format: (value) => value === 1,
  site: isName,
  backupId: isId,
  label: isShort,
  kind: oneOf("full", "tenant", "wal", "config"),
  method: orNull(oneOf("physical", "logical")),
  tenantId: orNull(isName),
  sequence: isCount,
  previousDigest: orNull(isSha256),
  createdAt: isTime,
  finishedAt: isTime,
  createdBy: isShort,
  jobId: isShort,
  tool: (value) => isRecord(value) && value.name === "jbackup" && isShort(value.version),
  server: orNull(
    (value) =>
      isRecord(value) &&
      isShort(value.version) &&
      isCount(value.versionNum) &&
      orNull(isShort)(value.systemId),
  ),
  timeline: orNull(isCount),
  startLsn: orNull(isLsn),
  endLsn: orNull(isLsn),
  parentId: orNull(isId),
  keyCommitment: isSha256,
  codec: oneOf("zstd", "gzip", "none"),
  rawBytes: isCount,
  storedBytes: isCount,
  objects: areObjects,
  needs: (value) => value === undefined || areNeeds(value),
  note: orNull((value) => typeof value === "string" && value.length <= LONG),
  warnings: (value) =>
    Array.isArray(value) &&
    value.length <= WARNINGS_MAX &&
    value.every((text) => typeof text === "string" && text.length <= LONG),
  metadata: isRecord,
};

/** What is wrong with the body, or undefined. Fields it does not know are left alone: a later jbackup may add some. */
export function bodyProblem(body: unknown): string | undefined {
  if (!isRecord(body)) return "its body is not a JSON object";
  if (!isShallow(body)) return "its body is nested too deeply";
  for (const [name, check] of Object.entries(BODY))
    if ((!Object.hasOwn(body, name) && name !== "needs") || !check(body[name]))
      return `its ${name} is missing or not well formed`;
  return undefined;
}

function areObjects(value: unknown): boolean {
  if (!Array.isArray(value) || value.length > OBJECTS_MAX || !value.every(isStoredObject)) return false;
  return new Set(value.map((object: StoredObject) => object.name)).size === value.length;
}

function areNeeds(value: unknown): boolean {
  if (!Array.isArray(value) || value.length > NEEDS_MAX || !value.every(isNeed)) return false;
  return new Set(value.map((need: { backupId: string }) => need.backupId)).size === value.length;
}

const isNeed = (value: unknown): boolean =>
  isRecord(value) && isId(value.backupId) && isObjectName(value.folder) && areObjects(value.objects);

const isStoredObject = (value: unknown): value is StoredObject =>
  isRecord(value) && isObjectName(value.name) && isCount(value.bytes) && isSha256(value.sha256);

export function keysProblem(keys: unknown): string | undefined {
  if (!Array.isArray(keys) || keys.length === 0 || keys.length > KEYS_MAX) return "its keys are missing";
  if (keys.filter((key) => isRecord(key) && key.kind === "scrypt").length > PASSPHRASE_KEYS_MAX)
    return `it has more than ${PASSPHRASE_KEYS_MAX} passphrase keys`;
  const at = keys.findIndex((key) => !isWrappedKey(key));
  return at < 0 ? undefined : `its key ${at + 1} is not well formed`;
}

function isWrappedKey(key: unknown): key is WrappedKey {
  if (!isRecord(key) || !isBase64(key.sealed, 48)) return false;
  if (key.kind === "x25519") return isKeyText("recipient", key.recipient) && isBase64(key.ephemeral, 32);
  return (
    key.kind === "scrypt" &&
    isBase64(key.salt, 16) &&
    isPayable({ n: key.n as number, r: key.r as number, p: key.p as number })
  );
}

export const isSignature = (value: unknown): value is { signer: string; value: string } =>
  isRecord(value) && isKeyText("signer", value.signer) && isBase64(value.value, 64);

export const isKeysSignature = (value: unknown): value is KeysSignature =>
  isSignature(value) && isTime((value as unknown as KeysSignature).at);

function isKeyText(kind: "recipient" | "signer", text: unknown): text is string {
  if (typeof text !== "string" || text !== text.trim().toLowerCase()) return false;
  try {
    decodeKey(kind, text);
    return true;
  } catch {
    return false; // decodeKey throws for exactly one reason: this is no such key
  }
}
