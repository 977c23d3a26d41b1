import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { manPage } from "../../src/cli/manPage.js";
import { COMMANDS } from "../../src/cli/tree.js";

const root = new URL("../../", import.meta.url);
const { version } = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
const file = new URL("man/jbackup.1", root);

test("the manual is what the table of commands says: npm run man makes it anew", () => {
  expect(readFileSync(file, "utf8")).toBe(manPage(version));
});

// small images have no manual, or a script in its place
const hasMan = /^man \d/.test(spawnSync("man", ["--version"], { encoding: "utf8" }).stdout ?? "");

test.runIf(hasMan)("man shows every command and every flag, without a complaint", () => {
  const shown = spawnSync("man", ["--warnings", "-P", "cat", "-l", fileURLToPath(file)], {
    encoding: "utf8",
    env: { ...process.env, MANWIDTH: "200", MANROFFOPT: "-c", LC_ALL: "C.UTF-8" },
  });
  expect([shown.status, shown.stderr]).toEqual([0, ""]);
  const text = shown.stdout.replaceAll("\u2010", "-");
  for (const { usage, options = [] } of COMMANDS) {
    expect(text).toContain(`jbackup ${usage}`);
    for (const [flags] of options) expect(text).toContain(flags);
  }
});
