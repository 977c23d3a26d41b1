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

export const signerOf = (signing: Secret): string => signingPair(signing).signer;

/** The recipient in its one spelling; throws config_invalid when it is not one. */
export const checkRecipient = (text: string): string => encodeKey("recipient", decodeKey("recipient", text));

/** The signer in its one spelling; throws config_invalid when it is not one. */
export const checkSigner = (text: string): string => encodeKey("signer", decodeKey("signer", text));

export const identityKey = (identity: Secret): KeyObject =>
  privateKeyOf("x25519", decodeKey("identity", identity.reveal()));

export const signingKey = (signing: Secret): KeyObject => signingPair(signing).key;

/** Thousands of manifests in a row are signed by the same key. */
const pairs = new WeakMap<Secret, { key: KeyObject; signer: string }>();

function signingPair(signing: Secret): { key: KeyObject; signer: string } {
  const known = pairs.get(signing);
  if (known !== undefined) return known;
  const key = privateKeyOf("ed25519", decodeKey("signing", signing.reveal()));
  const pair = { key, signer: encodeKey("signer", publicBytesOf(key)) };
  pairs.set(signing, pair);
  return pair;
}

export const signerKey = (signer: string): KeyObject => publicKeyOf("ed25519", decodeKey("signer", signer));
