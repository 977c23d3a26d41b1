import { createHmac, sign, verify } from "node:crypto";
import { JBackupError } from "../domain/errors.js";
import type { Manifest } from "../domain/manifest.js";
import type { Secret } from "../domain/secret.js";
import { checkSigner, signerKey, signerOf, signingKey } from "./keys.js";

export type Signature = Manifest["signature"];

/** Signs what the domain says it is: a signature over one kind of record is none over another. */
export function signDetached(bytes: Uint8Array, signing: Secret, domain: string): Signature {
  const value = sign(null, inDomain(bytes, domain), signingKey(signing)).toString("base64");
  return { signer: signerOf(signing), value };
}

/** True when the signer that the signature names has signed these bytes; says nothing about trust in that signer. */
export function isSignedBy(bytes: Uint8Array, signature: Signature, domain: string): boolean {
  const value = Buffer.from(signature.value, "base64");
  return value.length === 64 && verify(null, inDomain(bytes, domain), signerKey(signature.signer), value);
}

/** Throws verification_failed unless one of the signers has signed exactly these bytes in this domain. */
export function verifyDetached(
  bytes: Uint8Array,
  signature: Signature,
  { signers, domain, what = "the record" }: { signers: string[]; domain: string; what?: string },
): void {
  if (isTrusted(signature.signer, signers) && isSignedBy(bytes, signature, domain)) return;
  throw new JBackupError("verification_failed", `${what} is not signed by a trusted signer, or was changed`, {
    hint: "Compare the signer it names with keys.signers in jbackup.yaml.",
    details: { signer: signature.signer },
  });
}

/** Tells two secrets apart without giving one away: only whoever has the signing key could try passphrases on it. */
export const secretTag = (secret: Secret, signing: Secret): string =>
  createHmac("sha256", signing.reveal())
    .update("jbackup/1 secret tag\0")
    .update(secret.reveal())
    .digest("base64");

export const isTrusted = (signer: string, signers: string[]): boolean =>
  signers.map(checkSigner).includes(signer);

const inDomain = (bytes: Uint8Array, domain: string): Buffer =>
  Buffer.concat([Buffer.from(`jbackup/1 ${domain}\0`), bytes]);
