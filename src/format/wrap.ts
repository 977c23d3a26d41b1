import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  diffieHellman,
  hkdfSync,
  type KeyObject,
  randomBytes,
  scrypt,
  timingSafeEqual,
} from "node:crypto";
import { JBackupError } from "../domain/errors.js";
import type { WrappedKey } from "../domain/manifest.js";
import type { Secret } from "../domain/secret.js";
import { newPrivateKey, publicBytesOf, publicKeyOf } from "./curve.js";
import { checkRecipient, identityKey, recipientOf } from "./keys.js";
import { decodeKey } from "./text.js";

export type Recipient = { kind: "x25519"; publicKey: string } | { kind: "passphrase"; passphrase: Secret };
export type Identity = { kind: "x25519"; identity: Secret } | { kind: "passphrase"; passphrase: Secret };

type CurveKey = Extract<WrappedKey, { kind: "x25519" }>;
type PassphraseKey = Extract<WrappedKey, { kind: "scrypt" }>;
type ScryptCost = Pick<PassphraseKey, "n" | "r" | "p">;

const KEY_BYTES = 32;
const TAG_BYTES = 16;
const COST: ScryptCost = { n: 2 ** 16, r: 8, p: 1 };
/** What a manifest may ask of the reader: 128 MiB and a few seconds. It is read before it is trusted. */
const MAX_COST = { nTimesR: 2 ** 20, r: 32, p: 4 };
const SCRYPT_MEMORY = 192 * 2 ** 20;
// every wrapping key is used once, so the nonce may be constant
const NONCE = Buffer.alloc(12);

export const newDataKey = (): Buffer => randomBytes(KEY_BYTES);

/** Names a data key without giving it away; signed with the manifest, so a wrapped key cannot be exchanged. */
export const commitmentOf = (dataKey: Uint8Array): string =>
  createHmac("sha256", dataKey).update("jbackup/1 key commitment").digest("hex");

/** The data key sealed once per recipient. Each is bound to the backup id and opens for no other backup. */
export async function wrapDataKey(
  dataKey: Buffer,
  recipients: Recipient[],
  backupId: string,
): Promise<WrappedKey[]> {
  if (recipients.length === 0)
    throw new JBackupError("config_invalid", "there is no recipient to seal the backup for", {
      hint: "Add a public key to keys.recipients in jbackup.yaml; `jbackup keys new` makes one.",
    });
  const keys: WrappedKey[] = [];
  for (const recipient of recipients)
    keys.push(
      recipient.kind === "x25519"
        ? wrapForCurve(dataKey, checkRecipient(recipient.publicKey), backupId)
        : await wrapForPassphrase(dataKey, recipient.passphrase, backupId),
    );
  return keys;
}

/**
 * The data key, opened with the first identity that fits. no_key when none does; manifest_invalid when an identity is
 * named in the manifest but what is sealed for it does not open (another copy may be sound).
 */
export async function unwrapDataKey(
  keys: WrappedKey[],
  identities: Identity[],
  backup: { backupId: string; commitment: string },
): Promise<Buffer> {
  let damaged: WrappedKey | undefined;
  // curves first: they cost microseconds, a passphrase costs a quarter of a second per key
  for (const identity of identities.toSorted((a, b) => rank(a) - rank(b))) {
    for (const key of keys.filter((candidate) => fits(candidate, identity))) {
      const dataKey = await unwrapOne(key, identity, backup.backupId);
      if (dataKey !== undefined && commits(dataKey, backup.commitment)) return dataKey;
      if (dataKey !== undefined || key.kind === "x25519") damaged = key;
    }
  }
  throw damaged === undefined ? noKey(keys, backup.backupId) : damagedKey(damaged, backup.backupId);
}

const rank = (identity: Identity): number => (identity.kind === "x25519" ? 0 : 1);

const fits = (key: WrappedKey, identity: Identity): boolean =>
  key.kind === "scrypt"
    ? identity.kind === "passphrase"
    : identity.kind === "x25519" && key.recipient === recipientOf(identity.identity);

async function unwrapOne(key: WrappedKey, identity: Identity, backupId: string): Promise<Buffer | undefined> {
  if (key.kind === "x25519" && identity.kind === "x25519")
    return unwrapWithCurve(key, identity.identity, backupId);
  if (key.kind === "scrypt" && identity.kind === "passphrase")
    return unwrapWithPassphrase(key, identity.passphrase, backupId);
  return undefined;
}

const commits = (dataKey: Buffer, commitment: string): boolean => {
  const expected = Buffer.from(commitment, "hex");
  const actual = Buffer.from(commitmentOf(dataKey), "hex");
  return expected.length === actual.length && timingSafeEqual(expected, actual);
};

function wrapForCurve(dataKey: Buffer, recipient: string, backupId: string): CurveKey {
  const ephemeral = newPrivateKey("x25519");
  const theirs = decodeKey("recipient", recipient);
  const ours = publicBytesOf(ephemeral);
  const shared = sharedSecret(ephemeral, theirs);
  if (shared === undefined)
    throw new JBackupError("config_invalid", `recipient ${recipient} is not a usable public key`, {
      hint: "Make a new pair with `jbackup keys new` and put its public half into keys.recipients.",
    });
  const key = curveWrappingKey(shared, ours, theirs, backupId);
  return { kind: "x25519", recipient, ephemeral: ours.toString("base64"), sealed: sealKey(key, dataKey) };
}

function unwrapWithCurve(key: CurveKey, identity: Secret, backupId: string): Buffer | undefined {
  const ephemeral = Buffer.from(key.ephemeral, "base64");
  if (ephemeral.length !== KEY_BYTES) return undefined;
  const shared = sharedSecret(identityKey(identity), ephemeral);
  if (shared === undefined) return undefined;
  const ours = decodeKey("recipient", key.recipient);
  return openKey(curveWrappingKey(shared, ephemeral, ours, backupId), key.sealed);
}

/** Undefined for points of small order, whose "secret" is zero and known to everyone. */
function sharedSecret(privateKey: KeyObject, publicBytes: Buffer): Buffer | undefined {
  let shared: Buffer;
  try {
    shared = diffieHellman({ privateKey, publicKey: publicKeyOf("x25519", publicBytes) });
  } catch {
    return undefined; // OpenSSL refuses those points itself
  }
  return shared.every((byte) => byte === 0) ? undefined : shared;
}

const curveWrappingKey = (shared: Buffer, ephemeral: Buffer, recipient: Buffer, backupId: string): Buffer =>
  derive(shared, Buffer.concat([ephemeral, recipient]), `jbackup/1 wrap x25519\0${backupId}`);

/** Stretching a passphrase takes a quarter of a second: once per process will do, for every backup derives a key of its own from it. */
const stretched = new WeakMap<Secret, { salt: Buffer; keys: Map<string, Promise<Buffer>> }>();
const STRETCHED_MOST = 64;

function stretchesOf(passphrase: Secret): { salt: Buffer; keys: Map<string, Promise<Buffer>> } {
  const known = stretched.get(passphrase) ?? { salt: randomBytes(16), keys: new Map() };
  stretched.set(passphrase, known);
  return known;
}

const saltFor = (passphrase: Secret): Buffer => stretchesOf(passphrase).salt;

function stretch(
  passphrase: Secret,
  text: string,
  salt: Buffer,
  { n: N, r, p }: ScryptCost,
): Promise<Buffer> {
  const { keys } = stretchesOf(passphrase);
  const name = `${salt.toString("base64")} ${N} ${r} ${p}`;
  const known = keys.get(name);
  if (known !== undefined) return known;
  const key = new Promise<Buffer>((resolve, reject) =>
    scrypt(text, salt, KEY_BYTES, { N, r, p, maxmem: SCRYPT_MEMORY }, (error, made) =>
      error === null ? resolve(made) : reject(error),
    ),
  );
  if (keys.size >= STRETCHED_MOST) keys.clear();
  keys.set(name, key);
  return key;
}

async function wrapForPassphrase(
  dataKey: Buffer,
  passphrase: Secret,
  backupId: string,
): Promise<PassphraseKey> {
  const salt = saltFor(passphrase);
  const key = await passphraseWrappingKey(passphrase, salt, COST, backupId);
  return { kind: "scrypt", salt: salt.toString("base64"), ...COST, sealed: sealKey(key, dataKey) };
}

async function unwrapWithPassphrase(
  key: PassphraseKey,
  passphrase: Secret,
  backupId: string,
): Promise<Buffer | undefined> {
  const salt = Buffer.from(key.salt, "base64");
  return openKey(await passphraseWrappingKey(passphrase, salt, key, backupId), key.sealed);
}

/** True when opening costs no more than this reader is willing to spend. */
export const isPayable = ({ n, r, p }: ScryptCost): boolean =>
  [n, r, p].every((value) => Number.isSafeInteger(value) && value >= 1) &&
  n >= 2 &&
  (Math.log2(n) | 0) === Math.log2(n) &&
  n * r <= MAX_COST.nTimesR &&
  r <= MAX_COST.r &&
  p <= MAX_COST.p;

async function passphraseWrappingKey(
  passphrase: Secret,
  salt: Buffer,
  cost: ScryptCost,
  backupId: string,
): Promise<Buffer> {
  const text = passphrase.reveal().normalize("NFKC");
  if (text.trim() === "")
    throw new JBackupError("config_invalid", "the passphrase is empty", {
      hint: "Give keys.identity a passphrase from a file or an environment variable that holds one.",
    });
  if (!isPayable(cost))
    throw new JBackupError(
      "manifest_invalid",
      `the passphrase key of backup ${backupId} asks for more memory or time than any real one does`,
      { hint: `Its manifest was tampered with; \`jbackup verify ${backupId}\` compares the copies.` },
    );
  return derive(await stretch(passphrase, text, salt, cost), salt, `jbackup/1 wrap scrypt\0${backupId}`);
}

const derive = (secret: Buffer, salt: Buffer, info: string): Buffer =>
  Buffer.from(hkdfSync("sha256", secret, salt, info, KEY_BYTES));

function sealKey(wrapping: Buffer, dataKey: Buffer): string {
  const cipher = createCipheriv("aes-256-gcm", wrapping, NONCE);
  const sealed = Buffer.concat([cipher.update(dataKey), cipher.final(), cipher.getAuthTag()]);
  return sealed.toString("base64");
}

function openKey(wrapping: Buffer, sealed: string): Buffer | undefined {
  const bytes = Buffer.from(sealed, "base64");
  if (bytes.length !== KEY_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", wrapping, NONCE, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(bytes.subarray(KEY_BYTES));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(0, KEY_BYTES)), decipher.final()]);
  } catch {
    return undefined; // final() throws for nothing but a tag that does not match
  }
}

function noKey(keys: WrappedKey[], backupId: string): JBackupError {
  const openers = keys.map((key) =>
    key.kind === "x25519" ? `the identity of ${key.recipient}` : "its passphrase",
  );
  return new JBackupError("no_key", `none of the keys at hand opens backup ${backupId}`, {
    hint: `It opens with ${[...new Set(openers)].join(" or ")}: point keys.identity in jbackup.yaml to that, or take it from the recovery kit.`,
    details: { backupId, recipients: keys.flatMap((key) => (key.kind === "x25519" ? [key.recipient] : [])) },
  });
}

function damagedKey(key: WrappedKey, backupId: string): JBackupError {
  const whose = key.kind === "x25519" ? `for ${key.recipient}` : "for the passphrase";
  return new JBackupError(
    "manifest_invalid",
    `the key of backup ${backupId} that is sealed ${whose} was damaged, or belongs to another backup`,
    {
      hint: `Another copy may be sound: run \`jbackup verify ${backupId}\` and restore from the copy that passes.`,
    },
  );
}
