import * as zlib from "node:zlib";

/** More than any input of one call can come to, so that a stream never waits for its reader. */
const HELD_MOST_BYTES = 16 * 2 ** 20;
/**
 * Memory for results, given out in slices. Several times the largest input: only where a result has room whatever it comes to
 * does zstd compress in one pass, without a buffer of its own in between. As long as a slice is in use, all of it is: small
 * backups, which wait for storages in great numbers, have theirs in smaller pieces.
 */
const RESULT_BYTES = { small: 256 * 1024, large: 4 * 2 ** 20 };
const SMALL_BYTES = 64 * 1024;

const idle = new Map<string, zlib.ZstdCompress[]>();

/**
 * Compresses on a thread of libuv's pool, each call one whole zstd frame. Contexts are kept and used again: making one for
 * every megabyte costs as much as compressing it at a quick level. There are as many as calls at one time.
 */
export function zstdCompress(raw: Buffer, level: number): Promise<Buffer> {
  const size = raw.length <= SMALL_BYTES ? "small" : "large";
  const kind = `${size} ${level}`;
  const stream = idle.get(kind)?.pop() ?? newStream(level, RESULT_BYTES[size]);
  return new Promise((resolve, reject) => {
    stream.once("error", reject);
    stream.write(raw, (error) => {
      if (error) return; // told by the event; the stream is not used again
      stream.removeListener("error", reject);
      // without a length only the first of several pieces would come
      const packed = (stream.read(stream.readableLength) as Buffer | null) ?? Buffer.alloc(0);
      idle.set(kind, [...(idle.get(kind) ?? []), stream]);
      resolve(packed);
    });
  });
}

const newStream = (level: number, chunkSize: number): zlib.ZstdCompress =>
  zlib.createZstdCompress({
    params: { [zlib.constants.ZSTD_c_compressionLevel]: level },
    flush: zlib.constants.ZSTD_e_end,
    chunkSize,
    readableHighWaterMark: HELD_MOST_BYTES,
  } as zlib.ZstdOptions);
