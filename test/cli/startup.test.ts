import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const STATIC = /^(?:import|export)\s(?!type\b)[^;]*?from "([^"]+)"|^import "([^"]+)"/gm;

/** Packages and files that are loaded before the first line of a command runs. */
function loadedWith(file: string, seen = new Map<string, string>()): Map<string, string> {
  const source = readFileSync(join(root, file), "utf8");
  for (const [, from, bare] of source.matchAll(STATIC)) {
    const specifier = from ?? bare ?? "";
    const path = specifier.startsWith(".") ? join(file, "..", specifier).replace(/\.js$/, ".ts") : specifier;
    if (seen.has(path)) continue;
    seen.set(path, file);
    if (specifier.startsWith(".")) loadedWith(path, seen);
  }
  return seen;
}

test("a start loads the parser of the command line and nothing heavy", () => {
  const loaded = [...loadedWith("src/main.ts").keys()];
  expect(loaded).toContain("src/cli/program.ts");
  const packages = loaded.filter((path) => !path.startsWith("src/") && !path.startsWith("node:"));
  expect(packages.sort()).toEqual(["commander", "picocolors"]);
  const folders = new Set(loaded.filter((path) => path.startsWith("src/")).map((path) => path.split("/")[1]));
  expect([...folders].sort()).toEqual(["cli", "config", "domain", "sys"]);
  expect(loaded.filter((path) => path.startsWith("src/config/"))).toEqual(["src/config/environment.ts"]);
});
