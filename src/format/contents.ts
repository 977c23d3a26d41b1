import { createHash } from "node:crypto";
import { JBackupError } from "../domain/errors.js";
import type { Contents, Entry, Segment } from "../domain/manifest.js";
import { LIST_END } from "./bundle.js";
import { objectFault } from "./faults.js";
import type { SealContext } from "./header.js";
import { type BackupContext, CONTENTS_NAME, contentsContext, packContext } from "./layout.js";
import { isEntryName, isObjectName } from "./names.js";
import { type ObjectSource, openRange, openSealed } from "./open.js";
import { isCount, isRecord, isSha256 } from "./shape.js";

/** Room for a million files; more than this is no list. */
const CONTENTS_MAX_BYTES = 256 * 2 ** 20;

export interface OpenedContents {
  contents: Contents;
  /** What stands behind the list: the entries of a small backup, which has no other object. */
  attached: Buffer;
}

/** The sealed description of a backup, its shape checked. */
export const openContents = async (
  source: ObjectSource,
  dataKey: Uint8Array,
  backup: BackupContext,
): Promise<Contents> => (await openBundle(source, dataKey, backup)).contents;

/** The same, with what is attached to it. */
export async function openBundle(
  source: ObjectSource,
  dataKey: Uint8Array,
  backup: BackupContext,
): Promise<OpenedContents> {
  const context = contentsContext(backup);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of openSealed(source, dataKey, context)) {
    bytes += chunk.length;
    if (bytes > CONTENTS_MAX_BYTES)
      throw objectFault("object_corrupt", context, "is larger than any list of contents");
    chunks.push(chunk);
  }
  const opened = Buffer.concat(chunks);
  const listEnd = opened.indexOf(LIST_END);
  const list = listEnd === -1 ? opened : opened.subarray(0, listEnd);
  return {
    contents: checkContents(list.toString("utf8"), context),
    attached: listEnd === -1 ? Buffer.alloc(0) : opened.subarray(listEnd + 1),
  };
}

export interface EntryOptions extends BackupContext {
  dataKey: Uint8Array;
  /** What is attached to the contents, where entries may lie. */
  attached?: Buffer;
  /** Finds an object of the backup. May answer the same source again: nothing is kept between calls. */
  source: (objectName: string) => Promise<ObjectSource>;
}

/**
 * The bytes of one entry. Each chunk is authentic when it is handed over; that it is all of them is known
 * only when the iteration ends without an error.
 */
export const openEntry = (entry: Entry, options: EntryOptions): AsyncGenerator<Buffer> =>
  verifiedEntry(entry, options, (segment) => openSegment(segment, options));

/** Reads segment by segment, and compares length and SHA-256 at the end. */
export async function* verifiedEntry(
  entry: Entry,
  { backupId }: BackupContext,
  read: (segment: Segment) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  const hash = createHash("sha256");
  let bytes = 0;
  for (const segment of entry.segments) {
    for await (const chunk of read(segment)) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  }
  if (bytes !== entry.bytes || hash.digest("hex") !== entry.sha256)
    throw new JBackupError(
      "object_corrupt",
      `entry ${entry.name} of backup ${backupId} is not what was backed up: its SHA-256 differs`,
      {
        hint: "Every object is authentic, so this is a bug or a fault of the machine that wrote it: report it.",
      },
    );
}

async function* openSegment(
  { object, offset, bytes }: Segment,
  options: EntryOptions,
): AsyncGenerator<Buffer> {
  if (object === CONTENTS_NAME) {
    yield attachedBytes(options, offset, bytes);
    return;
  }
  const context = packContext(options, object);
  const source = await options.source(object);
  // from the start of a pack one pass will do, which saves the requests for header and trailer
  if (offset === 0) yield* firstBytes(openSealed(source, options.dataKey, context), bytes, context);
  else yield* openRange(source, options.dataKey, context, offset, offset + bytes);
}

function attachedBytes({ attached, ...backup }: EntryOptions, offset: number, bytes: number): Buffer {
  const found = attached?.subarray(offset, offset + bytes);
  if (found?.length === bytes) return found;
  throw objectFault(
    "object_truncated",
    contentsContext(backup),
    `has ${attached?.length ?? 0} bytes attached; bytes ${offset} to ${offset + bytes} were asked for`,
  );
}

async function* firstBytes(
  content: AsyncIterable<Buffer>,
  wanted: number,
  context: SealContext,
): AsyncGenerator<Buffer> {
  let missing = wanted;
  for await (const chunk of content) {
    // one chunk more is asked for than is needed: a range that reaches the end has the end checked
    if (missing > 0) yield chunk.subarray(0, missing);
    missing -= chunk.length;
    if (missing < 0) return;
  }
  if (missing > 0)
    throw objectFault(
      "object_truncated",
      context,
      `holds ${wanted - missing} bytes; ${wanted} were asked for`,
    );
}

function checkContents(text: string, context: SealContext): Contents {
  const bad = (what: string) => objectFault("object_corrupt", context, `is no list of contents: ${what}`);
  let contents: unknown;
  try {
    contents = JSON.parse(text);
  } catch (cause) {
    throw bad(cause instanceof SyntaxError ? "it is not JSON" : String(cause));
  }
  if (!isRecord(contents)) throw bad("it is not a JSON object");
  if (contents.format !== 1)
    throw objectFault(
      "version_mismatch",
      context,
      `has format ${String(contents.format)}; this jbackup reads 1`,
    );
  if (!isRecord(contents.detail)) throw bad("detail is missing");
  if (!Array.isArray(contents.entries)) throw bad("entries are missing");
  const names = new Set<string>();
  contents.entries.forEach((entry: unknown, at) => {
    if (!isEntry(entry)) throw bad(`entry ${at} is not well formed`);
    if (names.has(entry.name)) throw bad(`entry ${at} has a name that is taken`);
    names.add(entry.name);
  });
  return contents as unknown as Contents;
}

const isEntry = (value: unknown): value is Entry =>
  isRecord(value) &&
  isEntryName(value.name) &&
  isCount(value.bytes) &&
  isSha256(value.sha256) &&
  Array.isArray(value.segments) &&
  value.segments.every(isSegment) &&
  value.segments.reduce((sum: number, segment: { bytes: number }) => sum + segment.bytes, 0) === value.bytes;

const isSegment = (value: unknown): boolean =>
  isRecord(value) &&
  isObjectName(value.object) &&
  isCount(value.offset) &&
  isCount(value.bytes) &&
  value.bytes > 0;
