import { createHash } from "node:crypto";
import { type ErrorCode, JBackupError } from "../domain/errors.js";
import type { KeysSignature, Manifest, ManifestBody, RawManifest, WrappedKey } from "../domain/manifest.js";
import { folderOf } from "../domain/reference.js";
import type { Secret } from "../domain/secret.js";
import { canonicalJson } from "./canonical.js";
import { type KeysPart, keysDigestOf, keysStateOf, signKeys } from "./keysSignature.js";
import { bodyProblem, isSignature, keysProblem } from "./manifestShape.js";
import { isRecord, isShallow } from "./shape.js";
import { isSignedBy, isTrusted, signDetached } from "./sign.js";

const DOMAIN = "manifest";
/** A manifest is read whole before anything in it is believed. */
export const MANIFEST_MAX_BYTES = 64 * 2 ** 20;

/** The bytes of manifest.json. Body and keys are signed each by itself: keys that are sealed anew leave the body's signature as it is. */
export function signManifest(body: ManifestBody, keys: WrappedKey[], signing: Secret): Buffer {
  const problem = bodyProblem(body) ?? keysProblem(keys);
  if (problem !== undefined)
    throw new JBackupError("bug", `the manifest of backup ${body.backupId} cannot be signed: ${problem}`);
  const bytes = canonicalBytes(body);
  const part = { backupId: body.backupId, digest: sha256Of(bytes), keys };
  return manifestBytes(
    { body, keys, signature: signDetached(bytes, signing, DOMAIN) },
    signKeys(part, body.finishedAt, signing),
  );
}

/** Names the body: the checksum of the backup, and the link that the next manifest holds. */
export const digestOf = (body: ManifestBody): string => sha256Of(canonicalBytes(body));

const sha256Of = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** The same backup, opened by other keys. Body and its signature stay as they are. Keys are never older than those they replace, whatever the clock says. */
export function rewrapManifest(
  { body, digest, signature, keysSince }: Manifest,
  keys: WrappedKey[],
  { at, signing }: { at: string; signing: Secret },
): Buffer {
  const part = { backupId: body.backupId, digest, keys };
  const before = Date.parse(keysSince ?? body.finishedAt);
  const since = new Date(Math.max(Date.parse(at), before + 1)).toISOString();
  return manifestBytes({ body, keys, signature }, signKeys(part, since, signing));
}

export interface Expectation {
  site?: string;
  backupId?: string;
  tenantId?: string | null;
  /** Where it was found: one that was copied elsewhere is not believed there. */
  folder?: string;
  /** The digest that the catalog, or the next manifest of the chain, recorded. */
  digest?: string;
  /** Manifests with a smaller number are older than what is known to exist. */
  minSequence?: number;
}

/** Believes nothing before the signature: shape of the frame, signature, shape of the body, then whether it is the one asked for. */
export function readManifest(
  bytes: Uint8Array,
  { signers, expect = {} }: { signers: string[]; expect?: Expectation },
): Manifest {
  const which = expect.backupId === undefined ? "the manifest" : `the manifest of backup ${expect.backupId}`;
  const fail = (code: ErrorCode, problem: string, details: Record<string, unknown> = {}) =>
    new JBackupError(code, `${which} ${problem}`, { hint: HINTS[code], details: { ...expect, ...details } });

  const raw = parse(bytes, fail);
  if (raw.signature === undefined || raw.signature === null) throw fail("manifest_unsigned", "is not signed");
  if (!isSignature(raw.signature)) throw fail("manifest_forged", "has a signature that is none");
  const { signature } = raw;
  if (!isTrusted(signature.signer, signers))
    throw fail("manifest_forged", `is signed by ${signature.signer}, who is not trusted here`, {
      signer: signature.signer,
    });
  if (!isRecord(raw.body) || !isShallow(raw.body)) throw fail("manifest_invalid", "has no usable body");
  if (!isSignedBy(canonicalBytes(raw.body), signature, DOMAIN))
    throw fail("manifest_forged", "was changed after it was signed", { signer: signature.signer });
  if (typeof raw.body.format === "number" && raw.body.format > 1)
    throw fail("version_mismatch", `has format ${raw.body.format}; this jbackup reads 1`);
  const problem = bodyProblem(raw.body) ?? keysProblem(raw.keys);
  if (problem !== undefined) throw fail("manifest_invalid", `is not well formed: ${problem}`);

  const body = raw.body as unknown as ManifestBody;
  const digest = digestOf(body);
  const keys = raw.keys as WrappedKey[];
  const part: KeysPart = { backupId: body.backupId, digest, keys };
  const keysDigest = keysDigestOf(part);
  const manifest = {
    body,
    keys,
    signature,
    digest,
    keysDigest,
    ...keysStateOf(part, raw.keysSignature, signers),
  };
  refuseOther(manifest, expect, fail);
  return manifest;
}

type Fail = (code: ErrorCode, problem: string) => JBackupError;

function parse(bytes: Uint8Array, fail: Fail): RawManifest {
  if (bytes.length > MANIFEST_MAX_BYTES) throw fail("manifest_invalid", "is larger than any manifest");
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw fail("manifest_invalid", "is not JSON: it is damaged or cut off");
  }
  if (!isRecord(raw)) throw fail("manifest_invalid", "is not a JSON object");
  const { body, keys, signature, keysSignature } = raw;
  return { body, keys, signature, keysSignature };
}

/** Rightly signed, but not for this place or this day. */
function refuseOther({ body, digest }: Manifest, expect: Expectation, fail: Fail): void {
  if (expect.site !== undefined && body.site !== expect.site)
    throw fail("manifest_foreign", `belongs to site ${body.site}, not ${expect.site}`);
  if (expect.backupId !== undefined && body.backupId !== expect.backupId)
    throw fail("manifest_foreign", `belongs to backup ${body.backupId}`);
  if (expect.tenantId !== undefined && body.tenantId !== expect.tenantId)
    throw fail(
      "manifest_foreign",
      `belongs to ${body.tenantId === null ? "no tenant" : `tenant ${body.tenantId}`}, not ${expect.tenantId ?? "to the whole site"}`,
    );
  const folder = folderOf(body.kind, body.backupId, new Date(body.createdAt), body.tenantId);
  if (expect.folder !== undefined && expect.folder !== folder)
    throw fail("manifest_foreign", `belongs into ${folder}`);
  if (expect.minSequence !== undefined && body.sequence < expect.minSequence)
    throw fail(
      "manifest_older",
      `has number ${body.sequence}, older than number ${expect.minSequence} which is known`,
    );
  if (expect.digest !== undefined && digest !== expect.digest)
    throw fail(
      "manifest_older",
      "is rightly signed but is not the one that was recorded: it was replaced by another",
    );
}

const canonicalBytes = (body: unknown): Buffer => Buffer.from(canonicalJson(body), "utf8");

const manifestBytes = (
  { body, keys, signature }: Pick<Manifest, "body" | "keys" | "signature">,
  keysSignature: KeysSignature,
): Buffer => Buffer.from(`${JSON.stringify({ body, keys, signature, keysSignature }, null, 1)}\n`, "utf8");

const HINTS: Partial<Record<ErrorCode, string>> = {
  manifest_invalid: "Another copy may be sound: `jbackup verify --all --heal` replaces damaged manifests.",
  manifest_unsigned:
    "jbackup signs every manifest it writes: take it as planted, and restore from a copy in another storage.",
  manifest_forged:
    "Take it as tampering and restore from a copy in another storage; if the signing key was replaced on purpose, add its public half to keys.signers in jbackup.yaml.",
  manifest_foreign: "It was moved or copied here: run `jbackup verify --all` to compare the storages.",
  manifest_older: "Somebody put an older state back: run `jbackup verify --all` to compare the storages.",
  version_mismatch: "Install the jbackup version that wrote this backup, or a newer one.",
};
