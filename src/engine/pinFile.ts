import type { Pin } from "../domain/backup.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { StoredPin } from "../domain/pins.js";
import type { Secret } from "../domain/secret.js";
import type { Signature } from "../format/format.js";
import type { Site } from "./site.js";

/** What is signed of a pin, in this domain. */
const DOMAIN = "pin";

const signedBytes = (site: Site, pin: Pin): Buffer => Buffer.from(site.format.canonicalJson(pin), "utf8");

export function pinBytes(site: Site, pin: Pin, signing: Secret | null): Buffer {
  const signature =
    signing === null ? {} : { signature: site.format.signDetached(signedBytes(site, pin), signing, DOMAIN) };
  return Buffer.from(`${JSON.stringify({ ...pin, ...signature })}\n`, "utf8");
}

/** Throws object_corrupt for what is no pin. */
export function readPin(
  site: Site,
  bytes: Buffer,
  signers: string[],
): { pin: Pin; trust: StoredPin["trust"] } {
  const raw = parse(bytes);
  const { id, backupId, reason, until, createdAt, createdBy, removedAt, removedBy } = raw;
  const isPin =
    [id, backupId, reason, createdBy].every(isText) &&
    [removedBy].every((text) => text === null || isText(text)) &&
    isTime(createdAt) &&
    [until, removedAt].every((time) => time === null || isTime(time));
  if (!isPin) throw noPin();
  const pin = { id, backupId, reason, until, createdAt, createdBy, removedAt, removedBy } as Pin;
  if (raw.signature === undefined) return { pin, trust: "unsigned" };
  return { pin, trust: isSigned(site, pin, raw.signature, signers) ? "signed" : "changed" };
}

function isSigned(site: Site, pin: Pin, signature: unknown, signers: string[]): boolean {
  const { signer, value } = (signature ?? {}) as Partial<Signature>;
  if (typeof signer !== "string" || typeof value !== "string") return false;
  try {
    site.format.verifyDetached(signedBytes(site, pin), { signer, value }, { signers, domain: DOMAIN });
    return true;
  } catch (error) {
    if (isJBackupError(error, "verification_failed")) return false;
    throw error;
  }
}

function parse(bytes: Buffer): Record<string, unknown> {
  let raw: unknown;
  try {
    raw = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw noPin();
  }
  if (typeof raw !== "object" || raw === null) throw noPin();
  return raw as Record<string, unknown>;
}

const noPin = (): JBackupError => new JBackupError("object_corrupt", "is no pin");

const isText = (value: unknown): boolean => typeof value === "string";
const isTime = (value: unknown): boolean =>
  typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value) && !Number.isNaN(Date.parse(value));
