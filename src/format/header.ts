import { createHash, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import type { Codec } from "../domain/config.js";
import { objectFault } from "./faults.js";
import { endsLikeContainer } from "./frameIndex.js";

/** What an object is, sealed into its key: an object opens only where it belongs. */
export interface SealContext {
  site: string;
  backupId: string;
  /** What the object holds: data, contents, wal … */
  role: string;
  tenantId: string | null;
  /** The object's name inside its backup, such as data/000001.jbk. */
  name: string;
}

export interface Header {
  codec: Codec;
  frameBytes: number;
  salt: Buffer;
  context: SealContext;
  /** The header as stored, up to its checksum: the object key is derived from it. */
  bytes: Buffer;
}

const MAGIC = Buffer.from("894a424b0d0a1a0a", "hex");
const VERSION = 1;
const CODECS: readonly Codec[] = ["none", "gzip", "zstd"];
const SALT_BYTES = 32;
const FIXED_BYTES = 48;
const CHECKSUM_BYTES = 4;
const CHECK_BYTES = 16;
const FIELD_MAX_BYTES = 1024;

/** The length field sits here in every version of the format, and the checksum follows the header in every version. */
export const PROLOGUE_BYTES = 12;
export const HEADER_MAX_BYTES = 8192;
export const FRAME_MAX_BYTES = 2 ** 20;
/** What follows the header before the first frame. */
export const HEADER_TAIL_BYTES = CHECKSUM_BYTES + CHECK_BYTES;

export function newHeader(codec: Codec, frameBytes: number, context: SealContext): Header {
  if (!Number.isInteger(frameBytes) || frameBytes < 1 || frameBytes > FRAME_MAX_BYTES)
    throw new RangeError(`frame size ${frameBytes} is not between 1 and ${FRAME_MAX_BYTES}`);
  const salt = randomBytes(SALT_BYTES);
  const { site, backupId, role, tenantId, name } = context;
  const fields = [site, backupId, role, name].map(field);
  const tenant = tenantId === null ? Buffer.from([0]) : Buffer.concat([Buffer.from([1]), field(tenantId)]);
  const bytes = Buffer.concat([Buffer.alloc(FIXED_BYTES), ...fields, tenant]);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt8(VERSION, 8);
  bytes.writeUInt8(CODECS.indexOf(codec), 9);
  bytes.writeUInt16BE(bytes.length, 10);
  bytes.writeUInt32BE(frameBytes, 12);
  salt.copy(bytes, 16);
  return { codec, frameBytes, salt, context, bytes };
}

function field(text: string): Buffer {
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length > FIELD_MAX_BYTES || !text.isWellFormed())
    throw new RangeError(
      `a field of a container header is text of at most ${FIELD_MAX_BYTES} bytes, not ${JSON.stringify(text)}`,
    );
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

/** Header, checksum and key check: everything before the first frame. */
export function sealHeader(header: Header, keys: ObjectKeys): Buffer {
  return Buffer.concat([header.bytes, checksumOf(header.bytes), keys.check]);
}

export interface ObjectKeys {
  key: Buffer;
  check: Buffer;
}

/** Every object has a key of its own, from the data key, its salt and every byte of its header. */
export function objectKeys(dataKey: Uint8Array, header: Header): ObjectKeys {
  const info = Buffer.concat([
    Buffer.from("jbackup/1 object\0"),
    createHash("sha256").update(header.bytes).digest(),
  ]);
  const derived = Buffer.from(hkdfSync("sha256", dataKey, header.salt, info, 32 + CHECK_BYTES));
  return { key: derived.subarray(0, 32), check: derived.subarray(32) };
}

/** How long the whole opening is, as soon as its first twelve bytes are known. */
export function openingBytes(start: Buffer, expected: SealContext): number {
  if (start.length < PROLOGUE_BYTES) {
    const isCut = MAGIC.subarray(0, start.length).equals(start.subarray(0, MAGIC.length));
    throw isCut ? truncatedHeader(expected) : notAContainer(expected);
  }
  if (!start.subarray(0, MAGIC.length).equals(MAGIC)) throw notAContainer(expected);
  const bytes = start.readUInt16BE(10);
  if (bytes < FIXED_BYTES || bytes > HEADER_MAX_BYTES) throw damagedHeader(expected);
  return bytes + HEADER_TAIL_BYTES;
}

/** Checks, in this order: bit rot, the version, the place where the object belongs, the key. */
export function openHeader(
  opening: Buffer,
  dataKey: Uint8Array,
  expected: SealContext,
): [Header, ObjectKeys] {
  const header = readHeader(opening, expected);
  refuseForeign(header.context, expected);
  const keys = objectKeys(dataKey, header);
  const from = header.bytes.length + CHECKSUM_BYTES;
  if (!timingSafeEqual(keys.check, opening.subarray(from, from + CHECK_BYTES)))
    throw objectFault("container_foreign", expected, "is sealed with another key than this backup's");
  return [header, keys];
}

/** What the header claims. Nobody has vouched for it before the object is opened with its key. */
export function readHeader(opening: Buffer, expected: SealContext): Header {
  const needed = openingBytes(opening, expected);
  if (opening.length < needed)
    throw endsLikeContainer(opening) ? damagedHeader(expected) : truncatedHeader(expected);
  const bytes = opening.subarray(0, needed - HEADER_TAIL_BYTES);
  const checksum = opening.subarray(bytes.length, bytes.length + CHECKSUM_BYTES);
  if (!checksumOf(bytes).equals(checksum)) throw damagedHeader(expected);
  if (bytes[8] !== VERSION)
    throw objectFault(
      "version_mismatch",
      expected,
      `has container version ${bytes[8]}; this jbackup reads 1`,
    );
  return parseHeader(bytes, expected);
}

function parseHeader(bytes: Buffer, expected: SealContext): Header {
  const codec = CODECS[bytes.readUInt8(9)];
  const frameBytes = bytes.readUInt32BE(12);
  let at = FIXED_BYTES;
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) throw damagedHeader(expected);
    at += length;
    return bytes.subarray(at - length, at);
  };
  const text = (): string => take(take(2).readUInt16BE(0)).toString("utf8");
  const [site, backupId, role, name] = [text(), text(), text(), text()];
  const tenantId = take(1)[0] === 0 ? null : text();
  if (codec === undefined || frameBytes < 1 || frameBytes > FRAME_MAX_BYTES || at !== bytes.length)
    throw damagedHeader(expected);
  const context = { site, backupId, role, tenantId, name };
  return { codec, frameBytes, salt: bytes.subarray(16, FIXED_BYTES), context, bytes };
}

function refuseForeign(found: SealContext, expected: SealContext): void {
  const WORDS = {
    site: "site",
    backupId: "backup",
    tenantId: "tenant",
    role: "role",
    name: "object",
  } as const;
  for (const key of Object.keys(WORDS) as (keyof typeof WORDS)[])
    if (found[key] !== expected[key])
      throw objectFault(
        "container_foreign",
        expected,
        `belongs elsewhere: it was sealed for ${WORDS[key]} ${found[key] ?? "none"}`,
      );
}

const checksumOf = (header: Buffer): Buffer =>
  createHash("sha256").update(header).digest().subarray(0, CHECKSUM_BYTES);

const truncatedHeader = (expected: SealContext) =>
  objectFault("object_truncated", expected, "is cut off inside its header");
const notAContainer = (expected: SealContext) =>
  objectFault("object_corrupt", expected, "is not a jbackup container: its first bytes are wrong");
const damagedHeader = (expected: SealContext) =>
  objectFault("object_corrupt", expected, "has a damaged header");
