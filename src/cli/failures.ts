import { JBackupError, reasonOf } from "../domain/errors.js";
import { nameSystemError } from "../sys/systemErrors.js";

const NO_ROOM = ["ENOSPC", "EDQUOT", "EFBIG"];
const REFUSED = ["EACCES", "EPERM", "EROFS"];
const EXHAUSTED = ["EMFILE", "ENFILE", "ENOMEM"];

const isSystemError = (error: unknown): error is NodeJS.ErrnoException & { code: string } =>
  error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";

/** What the operating system refused is no bug: it says which file, and a person can change it. */
function fromSystem(error: NodeJS.ErrnoException & { code: string }): JBackupError | undefined {
  const path = error.path ?? "a file";
  const reason = error.message.replace(/^[A-Z]+: /, "").replace(/,? \w+( '.*)?$/, "");
  const message = `cannot ${error.syscall ?? "use"} ${path}: ${reason}`;
  if (error.syscall === "mkdir" && ["ENOENT", "ENOTDIR", "EEXIST"].includes(error.code))
    return new JBackupError("failed", message, {
      hint: "see what stands there instead of a folder, or set JBACKUP_HOME to a folder that can be made",
      cause: error,
    });
  if (NO_ROOM.includes(error.code))
    return new JBackupError("no_space", message, {
      hint: `make room where ${path} is, then run it again`,
      cause: error,
    });
  if (error.code === "EIO")
    return new JBackupError("failed", message, {
      hint: `the disk under ${path} fails: look into the kernel's log (dmesg), and use another one`,
      cause: error,
    });
  if (REFUSED.includes(error.code))
    return new JBackupError("failed", message, {
      hint: `run as a user who may do that, or change the permissions of ${path}`,
      cause: error,
    });
  if (EXHAUSTED.includes(error.code))
    return new JBackupError("environment", message, {
      hint: "raise the limits of this user (ulimit -a), or free memory",
      cause: error,
    });
  return undefined;
}

/** Whatever was thrown, as an error that says what to do. */
export function asJBackupError(error: unknown, version: string): JBackupError {
  if (error instanceof JBackupError) return error;
  nameSystemError(error);
  const known = isSystemError(error) ? fromSystem(error) : undefined;
  if (known) return known;
  return new JBackupError("bug", `this is a bug in jbackup: ${reasonOf(error)}`, {
    hint: `run it again with --verbose and report all that it prints, with jbackup ${version} and Node ${process.versions.node}`,
    cause: error,
  });
}
