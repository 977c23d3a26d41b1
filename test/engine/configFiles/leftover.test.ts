import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { isOwnLeftover } from "../../../src/engine/configFiles/layOutIn.js";

let folder = "";
const put = (...names: string[]): void => {
  for (const name of names) writeFileSync(join(folder, name), name);
};
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "jbackup-leftover-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("only what carries the mark of a restore that was killed is taken for one", async () => {
  put("host.json");
  expect([await isOwnLeftover(folder), await isOwnLeftover(join(folder, "none"))]).toEqual([false, false]);
  mkdirSync(join(folder, "files"));
  put(".jbackup-unfinished", "install-plan.md", "~jbackup-0123456789abcdef.tmp");
  expect(await isOwnLeftover(folder)).toBe(true);
});

test("what came into the folder meanwhile is named and stays", async () => {
  put(".jbackup-unfinished", "host.json", "my notes");
  const before = readdirSync(folder);
  await expect(isOwnLeftover(folder)).rejects.toMatchObject({
    exitCode: 14,
    message: expect.stringContaining(`${join(folder, "my notes")} is none of the files`),
  });
  expect(readdirSync(folder)).toEqual(before);
});
