import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { COMMANDS, isAsked } from "../../src/cli/tree.js";
import { captureOutput, jbackup } from "./captured.js";

const folder = mkdtempSync(join(tmpdir(), "jbackup-quiet-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, "jbackup.yaml");
writeFileSync(file, 'database: {url: "postgresql:///shop"}\n', { mode: 0o600 });
const validate = ["config", "validate", "--config", file];

test("a success says nothing when quiet, but for the document of --json", async () => {
  expect((await jbackup(validate)).stdout).not.toBe("");
  expect(await jbackup([...validate, "--quiet"])).toEqual({ exitCode: 0, stdout: "", stderr: "" });
  expect(JSON.parse((await jbackup([...validate, "--quiet", "--json"])).stdout)).toBeTypeOf("object");
});

test("what was asked for is answered all the same, and mistakes are told", async () => {
  expect((await jbackup(["completion", "bash", "--quiet"])).stdout).not.toBe("");
  writeFileSync(file, "database: {}\n", { mode: 0o600 });
  expect((await jbackup([...validate, "--quiet"])).stderr).toMatch(/^Error: /);
});

test("an answer that was held is told when it did not go well after all", () => {
  const captures = captureOutput({ quiet: true });
  captures.output.holdAnswer();
  captures.output.answer({}, "one storage lacks its copy");
  expect(captures.stdout.text).toBe("");
  captures.output.releaseAnswer();
  expect(captures.stdout.text).toBe("one storage lacks its copy\n");
});

test("backups, restores and drills are quiet; lists and reports are not", () => {
  const asked = COMMANDS.filter(isAsked).map(({ usage }) => usage.replace(/ [<[].*/, ""));
  for (const name of ["list", "show", "metrics", "dr report", "keys kit"]) expect(asked).toContain(name);
  for (const name of ["backup full", "backup wal", "restore", "dr run", "verify", "doctor", "cleanup"])
    expect(asked).not.toContain(name);
});
