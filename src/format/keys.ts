import type { KeyObject } from "node:crypto";
import { Secret } from "../domain/secret.js";
import { newPrivateKey, privateBytesOf, privateKeyOf, publicBytesOf, publicKeyOf } from "./curve.js";
import { decodeKey, encodeKey } from "./text.js";

/** The pair that seals and opens backups. The identity stays with whoever restores. */
export function generateIdentity(): { identity: Secret; recipient: string } {
  const key = newPrivateKey("x25519");
  return {
    identity: new Secret(encodeKey("identity", privateBytesOf(key))),
    recipient: encodeKey("recipient", publicBytesOf(key)),
  };
}

export const recipientOf = (identity: Secret): string =>
  encodeKey("recipient", publicBytesOf(identityKey(identity)));

/** The pair that signs manifests. The signing key stays with the host that backs up. */
export function generateSigning(): { signing: Secret; signer: string } {
  const key = newPrivateKey("ed25519");
  return {
    signing: new Secret(encodeKey("signing", privateBytesOf(key))),
    signer: encodeKey("signer", publicBytesOf(key)),
  };
}

export const signerOf = (signing: Secret): string => encodeKey("signer", publicBytesOf(signingKey(signing)));

/** The recipient in its one spelling; throws config_invalid when it is not one. */
export const checkRecipient = (text: string): string => encodeKey("recipient", decodeKey("recipient", text));

/** The signer in its one spelling; throws config_invalid when it is not one. */
export const checkSigner = (text: string): string => encodeKey("signer", decodeKey("signer", text));

export const identityKey = (identity: Secret): KeyObject =>
  privateKeyOf("x25519", decodeKey("identity", identity.reveal()));

export const signingKey = (signing: Secret): KeyObject =>
  privateKeyOf("ed25519", decodeKey("signing", signing.reveal()));

export const signerKey = (signer: string): KeyObject => publicKeyOf("ed25519", decodeKey("signer", signer));
