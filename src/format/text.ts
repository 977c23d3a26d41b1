import { createHash } from "node:crypto";
import { JBackupError } from "../domain/errors.js";

/**
 * Keys as text: a prefix that says what the key is for, then 32 bytes and a checksum in base32, so that a key
 * copied from paper with one wrong letter is refused instead of locking a backup away for ever.
 */
export type KeyKind = "recipient" | "identity" | "signer" | "signing";

const PREFIXES: Record<KeyKind, string> = {
  recipient: "jbk1pub",
  identity: "jbk1sec",
  signer: "jbk1ver",
  signing: "jbk1sig",
};
const NAMES: Record<KeyKind, string> = {
  recipient: "a recipient",
  identity: "an identity",
  signer: "a signer",
  signing: "a signing key",
};
const KEY_BYTES = 32;
const CHECKSUM_BYTES = 4;
const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

export function encodeKey(kind: KeyKind, key: Uint8Array): string {
  const prefix = PREFIXES[kind];
  return prefix + toBase32(Buffer.concat([key, checksumOf(prefix, key)]));
}

/** The 32 bytes of a key of that kind. No private key is ever part of a message. */
export function decodeKey(kind: KeyKind, text: string): Buffer {
  const clean = text.trim().toLowerCase();
  const prefix = PREFIXES[kind];
  if (!clean.startsWith(prefix)) throw wrongKind(kind, clean);
  const all = fromBase32(clean.slice(prefix.length));
  if (all === undefined || all.length !== KEY_BYTES + CHECKSUM_BYTES) throw mistyped(kind, clean);
  const key = all.subarray(0, KEY_BYTES);
  if (!checksumOf(prefix, key).equals(all.subarray(KEY_BYTES))) throw mistyped(kind, clean);
  // one key has one spelling: otherwise two texts of the same recipient would compare as different
  if (encodeKey(kind, key) !== clean) throw mistyped(kind, clean);
  return key;
}

const checksumOf = (prefix: string, key: Uint8Array): Buffer =>
  createHash("sha256").update(prefix).update(key).digest().subarray(0, CHECKSUM_BYTES);

function toBase32(bytes: Uint8Array): string {
  let text = "";
  let held = 0;
  let bits = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += ALPHABET.charAt((held >> (bits - 5)) & 31);
    held &= (1 << bits) - 1;
  }
  return bits > 0 ? text + ALPHABET.charAt((held << (5 - bits)) & 31) : text;
}

function fromBase32(text: string): Buffer | undefined {
  const bytes: number[] = [];
  let held = 0;
  let bits = 0;
  for (const letter of text) {
    const value = ALPHABET.indexOf(letter);
    if (value < 0) return undefined;
    held = (held << 5) | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((held >> bits) & 255);
      held &= (1 << bits) - 1;
    }
  }
  return Buffer.from(bytes);
}

const isPrivate = (kind: KeyKind): boolean => kind === "identity" || kind === "signing";

function wrongKind(wanted: KeyKind, text: string): JBackupError {
  const found = (Object.keys(PREFIXES) as KeyKind[]).find((kind) => text.startsWith(PREFIXES[kind]));
  if (found !== undefined && isPrivate(found) && !isPrivate(wanted))
    return new JBackupError(
      "config_invalid",
      `a private key (${NAMES[found]}) stands where ${NAMES[wanted]} belongs`,
      {
        hint: `Put its public half there, which begins with ${PREFIXES[wanted]}; take the private key out of this file, and run \`jbackup keys rotate\` if others could read it.`,
      },
    );
  const what =
    found === undefined
      ? "the text is no jbackup key"
      : `${NAMES[found]} stands where ${NAMES[wanted]} belongs`;
  return new JBackupError("config_invalid", what, {
    hint: `${capital(NAMES[wanted])} begins with ${PREFIXES[wanted]}; \`jbackup keys list\` shows the public keys and \`jbackup keys new\` makes a pair.`,
  });
}

function mistyped(kind: KeyKind, text: string): JBackupError {
  const which = isPrivate(kind) ? `${NAMES[kind]} (not shown)` : `${NAMES[kind]} ${text}`;
  return new JBackupError(
    "config_invalid",
    `${which} is mistyped or cut short: its checksum does not match`,
    {
      hint: `Copy it again whole: ${PREFIXES[kind]} and 58 letters and digits.`,
    },
  );
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
