import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { JBackupError } from "../domain/errors.js";
import type { ObjectBody, Storage } from "./storage.js";

const PIECE_BYTES = 256 * 1024;

export const sha256Of = async (chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<string> => {
  const hash = createHash("sha256");
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
};

/** Without a digest one is computed. */
export function bytesBody(chunks: readonly Uint8Array[], sha256?: string): ObjectBody {
  const hash = createHash("sha256");
  if (sha256 === undefined) for (const chunk of chunks) hash.update(chunk);
  return {
    bytes: chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    sha256: sha256 ?? hash.digest("hex"),
    async *read(start, end) {
      let offset = 0;
      for (const chunk of chunks) {
        const piece = chunk.subarray(Math.max(0, start - offset), Math.max(0, end - offset));
        // In small pieces: each one taken is a sign of life to the watchdog.
        for (let at = 0; at < piece.length; at += PIECE_BYTES) yield piece.subarray(at, at + PIECE_BYTES);
        offset += chunk.length;
        if (offset >= end) return;
      }
    },
  };
}

/** A finished file. It must not change while it is being stored; when it does, the put fails. */
export async function fileBody(path: string, sha256?: string): Promise<ObjectBody> {
  const { size } = await stat(path);
  const read = (start: number, end: number): AsyncIterable<Uint8Array> =>
    start >= end
      ? bytesBody([]).read(0, 0)
      : createReadStream(path, { start, end: end - 1, highWaterMark: PIECE_BYTES });
  return { bytes: size, sha256: sha256 ?? (await sha256Of(read(0, size))), read };
}

/** A small object as a whole. Refuses one that is bigger than anything expected there, instead of filling the memory. */
export async function readAll(storage: Storage, key: string, limit: { maxBytes: number }): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of storage.get(key)) {
    bytes += chunk.length;
    if (bytes > limit.maxBytes)
      throw new JBackupError(
        "object_corrupt",
        `storage ${storage.name}: ${key} is longer than the ${limit.maxBytes} bytes that such an object may have`,
        { hint: "Run `jbackup verify` to check this copy.", details: { storage: storage.name, key } },
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Whether the stored object is the body: what makes a repeated put fine, and any other one a conflict. */
export async function holdsBody(
  storage: Storage,
  key: string,
  body: ObjectBody,
  signal?: AbortSignal,
): Promise<boolean> {
  return (await sha256Of(storage.get(key, signal === undefined ? {} : { signal }))) === body.sha256;
}
