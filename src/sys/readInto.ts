import type { FileHandle } from "node:fs/promises";

/** Reads until the buffer is full or the file ends; answers how many bytes there were. */
export async function readInto(handle: FileHandle, into: Buffer, at: number): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await handle.read(into, done, into.length - done, at + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}
