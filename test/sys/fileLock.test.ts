import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { takeFileLock } from "../../src/sys/fileLock.js";
import { isAlive, markOf, ownMark } from "../../src/sys/processes.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-lock-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a lock is held by one, names its holder to others, and is free again after its release", async () => {
  const first = await takeFileLock(folder, "job");
  if (!("held" in first)) throw new Error("a free lock was refused");
  expect(await takeFileLock(folder, "job")).toEqual({ holder: ownMark() });
  expect("held" in (await takeFileLock(folder, "other"))).toBe(true);
  first.held.release();
  const again = await takeFileLock(folder, "job");
  expect("held" in again).toBe(true);
});

test("a process that is gone is not alive, nor is another one with its number", async () => {
  const child = spawn("sleep", ["60"]);
  const mark = markOf(child.pid as number);
  expect(isAlive(mark)).toBe(true);
  expect(isAlive({ ...mark, startTicks: "1" })).toBe(false);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(isAlive(mark)).toBe(false);
});

test("where no folder can be made, that is said: nothing waits for it", async () => {
  await expect(takeFileLock("/proc/nowhere/locks", "job")).rejects.toMatchObject({
    code: "ENOENT",
    syscall: "mkdir",
  });
});
