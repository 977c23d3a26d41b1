import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type ConfigDetail,
  type ConfigRecord,
  checkedRecords,
  chosenRecords,
  entryNameOf,
  foldersAbove,
  isBelow,
  rootsOf,
} from "../../src/domain/configBackup.js";

const base = { mode: 0o644, uid: 0, gid: 0, user: "root", group: "root", mtimeMs: 0 };
const file = (path: string, more: object = {}): ConfigRecord => ({
  kind: "file",
  path,
  ...base,
  bytes: 3,
  entry: "files/one",
  ...more,
});
const dir = (path: string, more: object = {}): ConfigRecord => ({
  kind: "dir",
  path,
  ...base,
  mode: 0o755,
  ...more,
});
const link = (path: string, target: string): ConfigRecord => ({ kind: "link", path, ...base, target });
const entries = [{ name: "files/one", bytes: 3, sha256: "", segments: [] }];

const detailOf = (records: unknown): ConfigDetail =>
  ({ host: "h", roots: [], records, missed: [], server: null }) as ConfigDetail;
const refusal = (records: unknown): string => {
  try {
    checkedRecords("config-1", detailOf(records), entries);
    return "";
  } catch (error) {
    return (error as Error).message.replace("the list of files in config-1 is refused: ", "");
  }
};

test("a list as backups write it is taken as it is", () => {
  const records = [
    dir("/etc", { isAbove: true }),
    dir("/etc/pg"),
    file("/etc/pg/a"),
    link("/etc/pg/l", "/etc/passwd"),
  ];
  expect(checkedRecords("config-1", detailOf(records), entries)).toBe(records);
});

describe("a list that could reach other places is refused", () => {
  test.each([
    ["no list at all", undefined, "it has no list of files"],
    ["a way up", [file("/etc/../root/x")], 'the path "/etc/../root/x" could lead anywhere'],
    ["a relative path", [file("etc/x")], 'the path "etc/x" could lead anywhere'],
    ["the root folder", [dir("/")], 'the path "/" could lead anywhere'],
    ["an empty part", [file("/etc//x")], 'the path "/etc//x" could lead anywhere'],
    ["a NUL", [file("/etc/x\0y")], 'the path "/etc/x\\u0000y" could lead anywhere'],
    ["a duplicate", [file("/etc/x"), link("/etc/x", "/root")], "/etc/x is listed twice"],
    [
      "a file below a link",
      [link("/etc/x", "/root"), file("/etc/x/.ssh/authorized_keys")],
      "/etc/x/.ssh/authorized_keys lies below /etc/x, which is a link",
    ],
    [
      "a file below a file",
      [file("/etc/x"), file("/etc/x/y")],
      "/etc/x/y lies below /etc/x, which is a file",
    ],
    [
      "a bomb",
      [file("/etc/x", { bytes: 2 ** 50 })],
      "/etc/x is said to have 1125899906842624 bytes, and its entry has 3",
    ],
    [
      "an entry that is not there",
      [file("/etc/x", { entry: "two" })],
      "/etc/x refers to two, which is not in the backup",
    ],
    ["a device", [{ ...file("/etc/x"), kind: "device" }], "/etc/x is neither file, folder nor link"],
    ["a wild mode", [file("/etc/x", { mode: 0o100644 })], "/etc/x has the mode 33188"],
    ["an empty link", [link("/etc/x", "")], "the link /etc/x leads nowhere"],
  ])("%s", (_what, records, why) => {
    expect(refusal(records)).toBe(why);
  });

  test("whatever has a part that leads up or out, anywhere in it", () => {
    const part = fc.constantFrom("a", "b", "..", ".", "");
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
        const isBad = parts.some((one) => one === ".." || one === "." || one === "");
        expect(refusal([file(`/${parts.join("/")}`)]) !== "").toBe(isBad);
      }),
    );
  });
});

test("only the named paths are chosen, with the folders above them", () => {
  const records = [
    dir("/etc", { isAbove: true }),
    dir("/etc/pg"),
    file("/etc/pg/a"),
    file("/etc/pgbouncer"),
    dir("/etc/pg/d"),
  ];
  expect(chosenRecords(records, [])).toEqual(records);
  expect(chosenRecords(records, ["/etc/pg/a"]).map(({ path }) => path)).toEqual([
    "/etc",
    "/etc/pg",
    "/etc/pg/a",
  ]);
  expect(chosenRecords(records, ["/etc/pg"]).map(({ path }) => path)).toEqual([
    "/etc",
    "/etc/pg",
    "/etc/pg/a",
    "/etc/pg/d",
  ]);
  expect(() => chosenRecords(records, ["/etc/passwd"])).toThrow("/etc/passwd is not in this backup");
});

test("roots are kept once, and a name is no folder of a longer one", () => {
  expect(rootsOf(["/etc/pg/a", "/etc/pgx", "/etc/pg", "/etc/pg"])).toEqual(["/etc/pg", "/etc/pgx"]);
  expect(isBelow("/etc/pgx", "/etc/pg")).toBe(false);
  expect(isBelow("/etc", "/")).toBe(true);
  expect(foldersAbove("/a/b/c")).toEqual(["/a", "/a/b"]);
});

test("entries are named as the files are, unless such a name could not be one", () => {
  const isName = (name: string): boolean => !/\p{Cc}/u.test(name);
  expect(entryNameOf("/etc/a", 7, isName)).toBe("files/etc/a");
  expect(entryNameOf("/etc/a\nb", 7, isName)).toBe("odd-names/000007");
});
