import { constants } from "node:os";
import { expect, test } from "vitest";
import { nameSystemError } from "../../src/sys/systemErrors.js";

const unknown = (errno: number, rest: string) =>
  Object.assign(new Error(`Unknown system error -${errno}: Unknown system error -${errno}, ${rest}`), {
    code: `Unknown system error -${errno}`,
    errno: -errno,
  });

test("a quota that is used up, and a file server that forgot a file, are named", () => {
  const full = unknown(constants.errno.EDQUOT, "write");
  nameSystemError(full);
  expect(full).toMatchObject({ code: "EDQUOT", message: "EDQUOT: disk quota exceeded, write" });
  const stale = unknown(constants.errno.ESTALE, "open '/mnt/file'");
  nameSystemError(stale);
  expect(stale).toMatchObject({ code: "ESTALE", message: "ESTALE: stale file handle, open '/mnt/file'" });
});

test("an error that has a name keeps it, and what is no error of the system is left alone", () => {
  const known = Object.assign(new Error("EIO: i/o error, fsync"), { code: "EIO", errno: -5 });
  for (const error of [known, new Error("other"), undefined, "text", unknown(9999, "write")]) {
    const before = String(error);
    nameSystemError(error);
    expect(String(error)).toBe(before);
  }
});
