import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findOldNode, repository, version } from "./installation.js";

const found = findOldNode();
const jbackup = join(repository, "bin/jbackup.js");
const nodes = [process.execPath, ...("path" in found ? [found.path] : [])];

test.each(nodes)("the built jbackup shows its help on %s", (node) => {
  const { status, stdout } = spawnSync(node, [jbackup, "--help"], { encoding: "utf8" });
  expect(stdout).toContain("backup");
  expect(stdout).toContain("restore");
  expect(status).toBe(0);
});

test.each(nodes)("an unknown command is a usage error on %s", (node) => {
  const { status, stdout } = spawnSync(node, [jbackup, "bakcup"], { encoding: "utf8" });
  expect([status, stdout]).toEqual([2, ""]);
});

test("npx runs the built jbackup", () => {
  const { stdout } = spawnSync("npx", ["--no-install", "jbackup", "--version"], {
    cwd: repository,
    encoding: "utf8",
  });
  expect(stdout).toBe(`${version()}\n`);
});
