import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";

/** Node takes raw curve keys only inside DER; these are the fixed bytes around them (RFC 8410). */
type Curve = "x25519" | "ed25519";

const PRIVATE_DER: Record<Curve, Buffer> = {
  x25519: Buffer.from("302e020100300506032b656e04220420", "hex"),
  ed25519: Buffer.from("302e020100300506032b657004220420", "hex"),
};
const PUBLIC_DER: Record<Curve, Buffer> = {
  x25519: Buffer.from("302a300506032b656e032100", "hex"),
  ed25519: Buffer.from("302a300506032b6570032100", "hex"),
};

export const privateKeyOf = (curve: Curve, bytes: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.concat([PRIVATE_DER[curve], bytes]), format: "der", type: "pkcs8" });

export const publicKeyOf = (curve: Curve, bytes: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.concat([PUBLIC_DER[curve], bytes]), format: "der", type: "spki" });

export function newPrivateKey(curve: Curve): KeyObject {
  return curve === "x25519"
    ? generateKeyPairSync("x25519").privateKey
    : generateKeyPairSync("ed25519").privateKey;
}

export const privateBytesOf = (key: KeyObject): Buffer =>
  key.export({ format: "der", type: "pkcs8" }).subarray(-32);

export const publicBytesOf = (privateKey: KeyObject): Buffer =>
  createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(-32);
