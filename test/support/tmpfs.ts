import { execFileSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const canMount = process.getuid?.() === 0;

export interface SmallDisk {
  path: string;
  /** From now on every write is refused. */
  makeReadOnly(): void;
  makeWritable(): void;
  grow(size: string): void;
  [Symbol.dispose](): void;
}

/** A file system of its own with room for so many bytes. Needs root. */
export function mountSmallDisk(size: string): SmallDisk {
  const path = mkdtempSync(join(tmpdir(), "jbackup-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size},mode=700`, "tmpfs", path]);
  return {
    path,
    grow: (larger) => void execFileSync("mount", ["-o", `remount,size=${larger}`, path]),
    makeReadOnly: () => void execFileSync("mount", ["-o", "remount,ro", path]),
    makeWritable: () => void execFileSync("mount", ["-o", "remount,rw", path]),
    [Symbol.dispose]() {
      execFileSync("umount", ["-l", path]);
      rmdirSync(path);
    },
  };
}
