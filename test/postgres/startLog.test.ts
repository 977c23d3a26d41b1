import { linkSync, lstatSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLog } from "../../src/postgres/restoredCluster.js";

let [folder, log, victim] = ["", "", ""];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "jbackup-log-"));
  log = join(folder, "jbackup-start.log");
  victim = join(folder, "victim");
  writeFileSync(victim, "secret", { mode: 0o600 });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const me = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

test("the log of a server's start is empty and for its owner's eyes, also when there was one", async () => {
  for (const before of [null, "of the last start"]) {
    if (before !== null) writeFileSync(log, before, { mode: 0o644 });
    await (await openLog(log, me)).close();
    expect([readFileSync(log, "utf8"), lstatSync(log).mode & 0o777]).toEqual(["", 0o600]);
  }
});

test.each([
  ["a link", symlinkSync],
  ["another name of a file", linkSync],
])("%s in its place is refused, and what it leads to stays as it is", async (_, put) => {
  put(victim, log);
  await expect(openLog(log, me)).rejects.toMatchObject({ code: "target_refused", exitCode: 14 });
  expect(readFileSync(victim, "utf8")).toBe("secret");
});
