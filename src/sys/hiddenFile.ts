import { randomBytes } from "node:crypto";
import { mkdir, open, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { writeWhole } from "./atomicFile.js";

export interface HiddenFile {
  /** A path under which other programs can open it, again and again, while it is held. */
  path: string;
  write(chunks: AsyncIterable<Uint8Array>): Promise<number>;
  close(): Promise<void>;
}

/**
 * A file without a name: other programs reach it through this process, and the kernel frees it when the process ends,
 * however it ends. Decrypted data never outlives the run that needed it.
 */
export async function openHiddenFile(directory: string): Promise<HiddenFile> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const named = join(directory, `~jbackup-${randomBytes(8).toString("hex")}.tmp`);
  const file = await open(named, "wx+", 0o600);
  const isLinux = process.platform === "linux";
  if (isLinux) await rm(named);
  return {
    path: isLinux ? `/proc/${process.pid}/fd/${file.fd}` : named,
    async write(chunks) {
      let bytes = 0;
      for await (const chunk of chunks) {
        await writeWhole(file, chunk);
        bytes += chunk.length;
      }
      return bytes;
    },
    async close() {
      await file.close();
      if (!isLinux) await rm(named, { force: true });
    },
  };
}

export async function freeBytesAt(directory: string): Promise<number> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const facts = await statfs(directory);
  return facts.bavail * facts.bsize;
}
