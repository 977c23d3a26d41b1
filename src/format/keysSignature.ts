import { createHash } from "node:crypto";
import type { KeysSignature, Manifest, WrappedKey } from "../domain/manifest.js";
import type { Secret } from "../domain/secret.js";
import { canonicalJson } from "./canonical.js";
import { isKeysSignature } from "./manifestShape.js";
import { isSignedBy, isTrusted, signDetached } from "./sign.js";

const DOMAIN = "manifest keys";

/** The keys of one backup, tied to what its body says. */
export interface KeysPart {
  backupId: string;
  /** Of the body. */
  digest: string;
  keys: WrappedKey[];
}

/** What a key opens to is committed to in the body; this tells which keys there are, and that none is missing or spoilt. */
export const signKeys = (part: KeysPart, at: string, signing: Secret): KeysSignature => ({
  ...signDetached(bytesOf({ ...part, at }), signing, DOMAIN),
  at,
});

export const keysDigestOf = (part: KeysPart): string =>
  createHash("sha256").update(bytesOf(part)).digest("hex");

export function keysStateOf(
  part: KeysPart,
  signature: unknown,
  signers: string[],
): Pick<Manifest, "keysAre" | "keysSince"> {
  if (signature === undefined) return { keysAre: "unsigned", keysSince: null };
  const isGood =
    isKeysSignature(signature) &&
    isTrusted(signature.signer, signers) &&
    isSignedBy(bytesOf({ ...part, at: signature.at }), signature, DOMAIN);
  return isGood ? { keysAre: "signed", keysSince: signature.at } : { keysAre: "changed", keysSince: null };
}

const bytesOf = (part: KeysPart & { at?: string }): Buffer => Buffer.from(canonicalJson(part), "utf8");
