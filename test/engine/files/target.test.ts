import { chown, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { lookAt, type Mark, markTarget, refuseBusy } from "../../../src/engine/files/target.js";
import { ownMark } from "../../../src/sys/processes.js";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "jbackup-target-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const mark: Mark = { backupId: "b", restoreId: "r", process: ownMark(), privateDirectory: null, owner: null };
const markFile = (): string => join(directory, "jbackup-restore.json");
const refusedMark = (): unknown =>
  expect.objectContaining({
    code: "target_refused",
    message: `${markFile()} was not left by a restore of this user`,
    hint: "finish that restore as the user who began it, or name another directory with --into-dir",
  });

describe("the mark of a restore", () => {
  test("is written whole, and what a killed writing of it left goes", async () => {
    await writeFile(join(directory, "~jbackup-0123456789abcdef.tmp"), "{");
    expect(await lookAt(directory)).toMatchObject({ isEmpty: true, mark: null });
    await markTarget(directory, mark);
    expect(await readdir(directory)).toEqual(["jbackup-restore.json"]);
    const state = await lookAt(directory);
    expect(state).toMatchObject({ isEmpty: true, mark });
    expect(() => refuseBusy(directory, state)).toThrow(`another restore (process ${process.pid}) is filling`);
  });

  test.each(["", '{"backupId": "b", "pro'])("torn to '%s' is gone on with", async (text) => {
    await writeFile(markFile(), text);
    const state = await lookAt(directory);
    expect(state.mark?.process).toBe(null);
    expect(() => refuseBusy(directory, state)).not.toThrow();
  });

  test("torn beside a pg_control is none: the cluster there was not touched", async () => {
    await writeFile(markFile(), "");
    await mkdir(join(directory, "global"));
    await writeFile(join(directory, "global", "pg_control"), Buffer.alloc(8192, 1));
    expect(await lookAt(directory)).toMatchObject({ mark: null, isEmpty: false });
  });

  test.runIf(process.getuid?.() === 0)("of another user is refused", async () => {
    await markTarget(directory, mark);
    await chown(markFile(), 12345, 12345);
    await expect(lookAt(directory)).rejects.toEqual(refusedMark());
  });

  test("is not read through a link", async () => {
    await writeFile(join(directory, "elsewhere"), JSON.stringify(mark));
    await symlink(join(directory, "elsewhere"), markFile());
    await expect(lookAt(directory)).rejects.toEqual(refusedMark());
  });
});
