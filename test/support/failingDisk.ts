import { execFileSync } from "node:child_process";
import { accessSync, chmodSync, constants, mkdtempSync, rmSync } from "node:fs";
import { constants as system, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const SOURCE = fileURLToPath(new URL("failingDisk.c", import.meta.url));

const compiler = ["cc", "tcc"].flatMap((name) =>
  (process.env.PATH ?? "").split(delimiter).flatMap((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return [join(folder, name)];
    } catch {
      return [];
    }
  }),
)[0];

/** Why no disk can be made to fail here; null where one can. */
export const whyNoDiskFails =
  process.platform !== "linux"
    ? "libraries are preloaded otherwise than on Linux"
    : compiler === undefined
      ? "there is no C compiler (apt-get install tcc)"
      : null;

export interface DiskFault {
  call: "fsync" | "write";
  error: "EIO" | "EROFS" | "EDQUOT";
  /** What the paths of the files begin with. */
  below: string;
  /** What they end in; anything unless told. */
  ending?: string;
  /** How many calls fail; all of them unless told. */
  times?: number;
}

export interface FailingDisk {
  /** The environment of a program whose calls shall fail. */
  failing(fault: DiskFault): Record<string, string>;
  [Symbol.dispose](): void;
}

/** Calls of the operating system that really answer with an error, in every thread of a program and in what it starts. */
export function makeFailingDisk(): FailingDisk {
  const folder = mkdtempSync(join(tmpdir(), "jbackup-failing-"));
  chmodSync(folder, 0o755); // servers that run as somebody else load it as well
  const library = join(folder, "failingDisk.so");
  execFileSync(compiler ?? "", ["-shared", "-fPIC", "-nostdlib", "-o", library, SOURCE]);
  return {
    failing: ({ call, error, below, ending = "", times = 0 }) => ({
      LD_PRELOAD: library,
      FAILING_DISK_CALL: call,
      FAILING_DISK_ERROR: String(system.errno[error]),
      FAILING_DISK_BELOW: below,
      FAILING_DISK_ENDING: ending,
      FAILING_DISK_TIMES: String(times),
    }),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
