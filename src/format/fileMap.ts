import { createCipheriv, randomBytes } from "node:crypto";
import { JBackupError } from "../domain/errors.js";
import { blocksIn, type Extent, type FileRecord } from "../domain/fileMap.js";
import { ByteReader } from "./byteReader.js";
import { isEntryName } from "./names.js";
import { isCount, isRecord } from "./shape.js";

/** The entry of a physical backup that says where every block of every file lies. */
export const MAP_ENTRY = "files.map";

export const FINGERPRINT_BYTES = 16;
const KEY_BYTES = 32;
const NONCE = Buffer.alloc(12);
const MAGIC = Buffer.from("JBKMAP1\n");
const HEAD_MAX_BYTES = 64 * 2 ** 20;
const TAGS_MAX_BYTES = 64 * 2 ** 20;

export const newFingerprintKey = (): Buffer => randomBytes(KEY_BYTES);

/**
 * One fingerprint per block, one after another. A fingerprint is the tag of AES-256-GCM over the block as associated data:
 * a keyed hash many times faster than SHA-256. It is safe with its one nonce because key and tags never leave sealed objects.
 */
export function fingerprintsOf(key: Buffer, bytes: Buffer, blockBytes: number): Buffer {
  const tags = Buffer.allocUnsafe(blocksIn(bytes.length, blockBytes) * FINGERPRINT_BYTES);
  for (let at = 0, block = 0; at < bytes.length; at += blockBytes, block++) {
    const cipher = createCipheriv("aes-256-gcm", key, NONCE);
    cipher.setAAD(bytes.subarray(at, at + blockBytes));
    cipher.final();
    cipher.getAuthTag().copy(tags, block * FINGERPRINT_BYTES);
  }
  return tags;
}

export const mapHeader = (): Buffer => Buffer.from(MAGIC);

/** One file of the map: lengths, a JSON head, the fingerprints. */
export function encodeFileRecord(record: FileRecord, tags: Buffer): Buffer {
  const head = Buffer.from(JSON.stringify(record));
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(head.length, 0);
  lengths.writeUInt32BE(tags.length, 4);
  return Buffer.concat([lengths, head, tags]);
}

export interface MapEntry {
  record: FileRecord;
  /** Empty for a folder. */
  tags: Buffer;
  /** The length of the record's JSON, for those who come back to it later. */
  headBytes: number;
}

/** The files of a map, one after another, each checked before it is believed. */
export async function* readMap(stream: AsyncIterable<Uint8Array>): AsyncGenerator<MapEntry> {
  const reader = new ByteReader(stream);
  try {
    if (!(await reader.take(MAGIC.length)).equals(MAGIC)) throw badMap("it does not begin like one");
    for (;;) {
      const lengths = await reader.take(8);
      if (lengths.length === 0) return;
      if (lengths.length < 8) throw badMap("it is cut off");
      const headBytes = lengths.readUInt32BE(0);
      const tagBytes = lengths.readUInt32BE(4);
      if (headBytes > HEAD_MAX_BYTES || tagBytes > TAGS_MAX_BYTES) throw badMap("a file in it is too large");
      const head = await reader.take(headBytes);
      const tags = await reader.take(tagBytes);
      if (head.length < headBytes || tags.length < tagBytes) throw badMap("it is cut off");
      yield { record: parseRecord(head, tagBytes), tags, headBytes };
    }
  } finally {
    await reader.close();
  }
}

function parseRecord(head: Buffer, tagBytes: number): FileRecord {
  let record: unknown;
  try {
    record = JSON.parse(head.toString("utf8"));
  } catch {
    throw badMap("a file in it is not described in JSON");
  }
  if (!isRecord(record) || !isEntryName(record.path) || !isMode(record.mode))
    throw badMap("a file in it has no usable path");
  if (record.kind === "dir" && tagBytes === 0) return { kind: "dir", path: record.path, mode: record.mode };
  if (record.kind !== "file" || !isFile(record, tagBytes))
    throw badMap(`${record.path} is not well described`);
  return record as unknown as FileRecord;
}

const isMode = (mode: unknown): mode is number => isCount(mode) && mode <= 0o7777;

function isFile({ size, block, at }: Record<string, unknown>, tagBytes: number): boolean {
  if (!isCount(size) || !isCount(block) || block < 1 || !Array.isArray(at) || !at.every(isExtent))
    return false;
  const covered = at.reduce((sum: number, extent: Extent) => sum + extent[3], 0);
  return covered === size && tagBytes === blocksIn(size, block) * FINGERPRINT_BYTES;
}

const isExtent = (extent: unknown): boolean => {
  if (!Array.isArray(extent) || extent.length !== 4 || !extent.every(isCount)) return false;
  const [, pack, , bytes] = extent as unknown as Extent;
  return pack > 0 && bytes > 0;
};

const badMap = (why: string): JBackupError =>
  new JBackupError("object_corrupt", `the map of the files cannot be used: ${why}`, {
    hint: "choose another backup from jbackup list",
  });
