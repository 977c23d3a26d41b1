import { createHash } from "node:crypto";
import type { Compression } from "../domain/config.js";
import type { Contents, Entry } from "../domain/manifest.js";
import type { FrameCompressor } from "./compress.js";
import { type BackupContext, CONTENTS_NAME, contentsContext } from "./layout.js";
import { type SealedObject, sealObject } from "./seal.js";

export interface BundleOptions extends BackupContext {
  dataKey: Buffer;
  compression: Compression;
  /** Shared by many small backups, which are alike. */
  compressor: FrameCompressor;
}

export interface SmallFile {
  name: string;
  content: Buffer;
}

export interface Bundle {
  object: SealedObject;
  rawBytes: number;
}

/** Between the list of contents, which has no line break in it, and the bytes of its entries. */
export const LIST_END = 0x0a;

/** A small backup as a single object: its list of contents, and behind it everything that the list names. */
export async function sealBundle(
  files: SmallFile[],
  detail: Record<string, unknown>,
  options: BundleOptions,
): Promise<Bundle> {
  let offset = 0;
  const entries = files.map(({ name, content }): Entry => {
    const segments = content.length === 0 ? [] : [{ object: CONTENTS_NAME, offset, bytes: content.length }];
    offset += content.length;
    const sha256 = createHash("sha256").update(content).digest("hex");
    return { name, bytes: content.length, sha256, segments };
  });
  const contents: Contents = { format: 1, entries, detail };
  async function* bytes(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`${JSON.stringify(contents)}\n`);
    for (const { content } of files) yield content;
  }
  const { dataKey, compression, compressor } = options;
  const context = contentsContext(options);
  return {
    object: await sealObject(bytes(), { dataKey, compression, compressor, context }),
    rawBytes: offset,
  };
}
