import { describe, expect, test } from "vitest";
import { ERROR_CODES, type ErrorCode, JBackupError } from "../../src/domain/errors.js";
import type { Site } from "../../src/engine/site.js";
import { jbackup } from "./captured.js";

const throwing = (error: unknown) => ({
  openSite: async (): Promise<never> => {
    throw error;
  },
});

const codes = Object.keys(ERROR_CODES) as ErrorCode[];

test.each(codes)("%s ends in the exit code that the table promises", async (code) => {
  const opener = throwing(new JBackupError(code, "it happened", { hint: "do this" }));
  expect(await jbackup(["list"], opener)).toEqual({
    exitCode: ERROR_CODES[code],
    stdout: "",
    stderr: "Error: it happened\nTry: do this\n",
  });
  const { exitCode, stdout } = await jbackup(["list", "--json"], opener);
  expect(exitCode).toBe(ERROR_CODES[code]);
  expect(JSON.parse(stdout)).toEqual({
    error: { code, message: "it happened", hint: "do this", exitCode: ERROR_CODES[code] },
  });
});

test("what nobody foresaw is called a bug, and says how to report it", async () => {
  const opener = throwing(new TypeError("x is not a function"));
  expect(await jbackup(["list"], opener)).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: `Error: this is a bug in jbackup: x is not a function\nTry: run it again with --verbose and report all that it prints, with jbackup 1.2.3 and Node ${process.versions.node}\n`,
  });
  expect((await jbackup(["list", "--verbose"], opener)).stderr).toContain("execute.test.ts");
  expect((await jbackup(["list"], throwing("a mere text"))).stderr).toContain("jbackup: a mere text\n");
});

describe("what the system refused is no bug", () => {
  const systemError = (code: string, text: string) =>
    Object.assign(new Error(`${code}: ${text}, open '/var/lib/x'`), {
      code,
      syscall: "open",
      path: "/var/lib/x",
    });

  test.each([
    [
      systemError("EACCES", "permission denied"),
      1,
      "cannot open /var/lib/x: permission denied",
      "run as a user who may do that, or change the permissions of /var/lib/x",
    ],
    [
      systemError("EROFS", "read-only file system"),
      1,
      "cannot open /var/lib/x: read-only file system",
      "run as a user who may do that, or change the permissions of /var/lib/x",
    ],
    [
      systemError("ENOSPC", "no space left on device"),
      16,
      "cannot open /var/lib/x: no space left on device",
      "make room where /var/lib/x is, then run it again",
    ],
    [
      systemError("EFBIG", "file too large"),
      16,
      "cannot open /var/lib/x: file too large",
      "make room where /var/lib/x is, then run it again",
    ],
    [
      systemError("EIO", "i/o error"),
      1,
      "cannot open /var/lib/x: i/o error",
      "the disk under /var/lib/x fails: look into the kernel's log (dmesg), and use another one",
    ],
    [
      systemError("EMFILE", "too many open files"),
      16,
      "cannot open /var/lib/x: too many open files",
      "raise the limits of this user (ulimit -a), or free memory",
    ],
  ])("%s", async (error, exitCode, message, hint) => {
    expect(await jbackup(["list"], throwing(error))).toEqual({
      exitCode,
      stdout: "",
      stderr: `Error: ${message}\nTry: ${hint}\n`,
    });
  });

  test("a file that is missing inside jbackup is one", async () => {
    expect((await jbackup(["list"], throwing(systemError("ENOENT", "no such file")))).stderr).toContain(
      "a bug",
    );
  });
});

describe("a run that was told to stop", () => {
  const interrupted = new JBackupError("interrupted", "interrupted; what was begun has been taken back");

  test("fails for that reason, whatever broke because of it", async () => {
    const stopping = new AbortController();
    const openSite = async (): Promise<never> => {
      stopping.abort(interrupted);
      throw new JBackupError("tool_failed", "pg_dump was killed");
    };
    const argv = ["backup", "full", "--logical"];
    expect(await jbackup(argv, { openSite, signal: stopping.signal })).toEqual({
      exitCode: 130,
      stdout: "",
      stderr: "Error: interrupted; what was begun has been taken back\n",
    });
  });

  test("does not wait for a question that only looks", async () => {
    const stopping = new AbortController();
    const openSite = async () => {
      setTimeout(() => stopping.abort(interrupted), 20);
      return new Promise<never>(() => undefined);
    };
    expect((await jbackup(["list"], { openSite, signal: stopping.signal })).exitCode).toBe(130);
    expect((await jbackup(["list"], { openSite, signal: AbortSignal.abort(interrupted) })).exitCode).toBe(
      130,
    );
  });

  test("waits for the clean-up of work that changes something", async () => {
    const stopping = new AbortController();
    let isCleanedUp = false;
    const openSite = async (): Promise<Site> => {
      stopping.abort(interrupted);
      return {
        close: async () => {
          await new Promise((done) => setTimeout(done, 50));
          isCleanedUp = true;
        },
      } as Site;
    };
    await jbackup(["storages", "check"], { openSite, signal: stopping.signal });
    expect(isCleanedUp).toBe(true);
  });
});

test("trouble while closing does not hide what went wrong first", async () => {
  const openSite = async (): Promise<Site> =>
    ({
      storages: async () => {
        throw new JBackupError("catalog_unavailable", "the catalog is away");
      },
      close: async () => {
        throw new Error("already closed");
      },
    }) as unknown as Site;
  expect(await jbackup(["storages", "check"], { openSite })).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: "Warning: while closing: already closed\nError: the catalog is away\n",
  });
});

test("a password that somebody typed into an address is not repeated", async () => {
  const words = ["list", "postgresql://u:geheim42@h/d"];
  const { exitCode, stderr } = await jbackup(words, {});
  expect(exitCode).toBe(2);
  expect(stderr).toContain('jbackup list takes no arguments, but was given "postgresql://u:***@h/d"');
  expect((await jbackup([...words, "--json"], {})).stdout).not.toContain("geheim42");
});

test.each([[["--config"]], [["--json", "--config"]]])("%j lacks a value, and no command", async (words) => {
  const { exitCode, stdout, stderr } = await jbackup(words, {});
  expect(exitCode).toBe(2);
  expect(stdout + stderr).toContain("--config needs a value");
});
