import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { problemsOf } from "./architecture/rules.js";

const root = fileURLToPath(new URL("..", import.meta.url));

const sources = ["src", "migrations"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => `${folder}/${path}`),
);

test("every source file keeps to the architecture", () => {
  expect(sources).not.toEqual([]);
  const problems = sources.flatMap((path) => problemsOf(path, readFileSync(join(root, path), "utf8")));
  if (problems.length > 0) expect.fail(`\n${problems.join("\n")}`);
});

interface Case {
  path: string;
  code: string;
  problem: string;
}

const bad = (path: string, code: string, problem: string): Case => ({ path, code, problem });

describe("an import against the layers is named", () => {
  test.each([
    bad("src/domain/a.ts", 'import fs from "node:fs";', "domain may not import Node's fs"),
    bad("src/domain/a.ts", 'import fs from "fs/promises";', "domain may not import Node's fs/promises"),
    bad("src/domain/a.ts", 'import { z } from "zod";', "domain may not import the package zod"),
    bad(
      "src/domain/a.ts",
      'import type { Clock } from "../sys/clock.js";',
      "domain may not import sys (src/sys/clock.ts)",
    ),
    bad("src/sys/a.ts", 'import { z } from "zod";', "sys may not import the package zod"),
    bad("src/sys/a.ts", 'import "../engine/b.js";', "sys may not import engine (src/engine/b.ts)"),
    bad(
      "src/storage/local.ts",
      'import type { Catalog } from "../catalog/catalog.js";',
      "storage may not import catalog (src/catalog/catalog.ts)",
    ),
    bad(
      "src/format/a.ts",
      'import { config } from "../config/config.js";',
      "format may not import config (src/config/config.ts)",
    ),
    bad(
      "src/postgres/a.ts",
      'export * from "../engine/backup.js";',
      "postgres may not import engine (src/engine/backup.ts)",
    ),
    bad(
      "src/alerts/a.ts",
      'const a = await import("../cli/output.js");',
      "alerts may not import cli (src/cli/output.ts)",
    ),
    bad(
      "src/engine/a.ts",
      'import { openStorage } from "../storage/storages.js";',
      'engine may import storage with "import type" only (src/storage/storages.ts)',
    ),
    bad(
      "src/engine/a.ts",
      'import { type Storage } from "../storage/storage.js";',
      'engine may import storage with "import type" only (src/storage/storage.ts)',
    ),
    bad(
      "src/engine/a.ts",
      'import { x } from "../cli/output.js";',
      "engine may not import cli (src/cli/output.ts)",
    ),
    bad("src/engine/a.ts", 'import { z } from "zod";', "engine may not import the package zod"),
    bad(
      "src/engine/a.ts",
      'import type { S3 } from "../storage/s3/client.js";',
      "storage may only be imported through its front file (src/storage/storages.ts or src/storage/storage.ts), not src/storage/s3/client.ts",
    ),
    bad(
      "src/cli/commands/a.ts",
      'export { open } from "../../catalog/catalogs.js";',
      'cli may import catalog with "import type" only (src/catalog/catalogs.ts)',
    ),
    bad(
      "src/cli/commands/a.ts",
      'import { a } from "../../config/secrets.js";',
      "config may only be imported through its front file (src/config/config.ts), not src/config/secrets.ts",
    ),
    bad(
      "src/cli/program.ts",
      'const { wire } = await import("../wire.js");',
      "only the composition root may import src/wire.ts",
    ),
    bad(
      "migrations/a.ts",
      'import { x } from "../src/domain/a.js";',
      "migrations may not import domain (src/domain/a.ts)",
    ),
    bad("migrations/a.ts", 'import pg from "pg";', "migrations may not import the package pg"),
    bad(
      "src/main.ts",
      'await import("./" + name);',
      "an import must name its module literally, or its layer cannot be checked",
    ),
    bad("src/domain/a.ts", 'const a = require("fs");', "domain may not import Node's fs"),
    bad(
      "src/domain/a.ts",
      'import "../../test/support/b.js";',
      "domain may not import test/support/b.ts, which lies outside the layers",
    ),
  ])("$path: $code", ({ path, code, problem }) => {
    expect(problemsOf(path, code)).toEqual([`${path}:1: ${problem}`]);
  });
});

describe("what has one home is named elsewhere", () => {
  const stdout = "only src/cli/output.ts writes to standard output";
  const time = "only src/sys/clock.ts reads the current time";
  test.each([
    bad("src/engine/a.ts", "process.exit(1);", "only src/main.ts calls process.exit"),
    bad("src/engine/a.ts", "globalThis.process?.exit(1);", "only src/main.ts calls process.exit"),
    bad("src/cli/commands/a.ts", "process.stdout.write(x);", stdout),
    bad("src/main.ts", "console.log(x);", stdout),
    bad(
      "src/cli/commands/a.ts",
      'import inquirer from "inquirer";',
      "only src/cli/confirm.ts and src/cli/wizards prompt (inquirer)",
    ),
    bad(
      "src/storage/a.ts",
      'import { execa } from "execa";',
      "only src/postgres, src/sys/aside.ts and the secrets of src/config spawn programs (execa, child_process)",
    ),
    bad(
      "src/engine/a.ts",
      'import { spawn } from "node:child_process";',
      "only src/postgres, src/sys/aside.ts and the secrets of src/config spawn programs (execa, child_process)",
    ),
    bad("src/storage/a.ts", "const home = process.env.HOME;", "only src/config reads environment variables"),
    bad("src/storage/a.ts", 'const home = process["env"];', "only src/config reads environment variables"),
    bad("src/engine/a.ts", "const now = Date.now();", time),
    bad("src/engine/a.ts", "const now = new Date();", time),
    bad("src/engine/a.ts", "const now = performance.now();", time),
    bad(
      "src/storage/a.ts",
      'import type { Kysely } from "kysely";',
      "only src/catalog and migrations know kysely",
    ),
    bad(
      "src/storage/a.ts",
      'import { x } from "kysely/migration";',
      "only src/catalog and migrations know kysely",
    ),
    bad("src/engine/a.ts", "const x = Math.random();", "only src/sys uses Math.random"),
    bad("src/domain/a.ts", "setTimeout(f, 1);", "domain is pure and uses no global with effects"),
    bad(
      "src/domain/a.ts",
      "const id = crypto.randomUUID();",
      "domain is pure and uses no global with effects",
    ),
    bad(
      "src/engine/a.ts",
      "const { exit } = process;",
      "process is not taken apart, or these rules could not see what is used of it",
    ),
    bad(
      "src/engine/a.ts",
      'import { exit } from "node:process";',
      "the global process is used, not node:process, so that these rules see it",
    ),
    bad(
      "src/engine/a.ts",
      'import { performance } from "node:perf_hooks";',
      "only src/sys/clock.ts imports node:perf_hooks",
    ),
  ])("$path: $code", ({ path, code, problem }) => {
    expect(problemsOf(path, code)).toEqual([`${path}:1: ${problem}`]);
  });
});

describe("a file that is misplaced, misnamed, unfinished or too long is named", () => {
  const unfinished = ["TO", "DO"].join("");
  test.each([
    bad("src/wizard.ts", "", "the file belongs to no layer"),
    bad("src/things/a.ts", "", "the file belongs to no layer"),
    bad("src/engine/utils/a.ts", "", "a folder is named for what it holds, not utils or common"),
    bad("src/engine/archive-wal.ts", "", "a file name is written in camelCase"),
    bad("src/engine/a.ts", `// ${unfinished}: later`, "unfinished work is not left in the source"),
  ])("$path: $problem", ({ path, code, problem }) => {
    expect(problemsOf(path, code)).toEqual([`${path}:1: ${problem}`]);
  });

  test("400 lines pass and 401 do not", () => {
    expect(problemsOf("src/engine/a.ts", "f();\n".repeat(400))).toEqual([]);
    expect(problemsOf("src/engine/a.ts", "f();\n".repeat(401))).toEqual([
      "src/engine/a.ts:401: a file has at most 400 lines, not 401",
    ]);
  });
});

describe("what is allowed passes", () => {
  test.each([
    ["src/wire.ts", 'import { openS3 } from "./storage/s3.js";'],
    ["src/main.ts", "process.exit(await run(process.env));"],
    ["src/engine/a.ts", 'import type { Storage } from "../storage/storage.js";'],
    ["src/engine/a.ts", 'type A = typeof import("../storage/storage.js");'],
    [
      "src/engine/a.ts",
      'import { JBackupError } from "../domain/errors.js";\nimport { pipeline } from "node:stream";',
    ],
    ["src/cli/program.ts", 'const { list } = await import("./commands/list.js");'],
    ["src/cli/confirm.ts", 'import { input } from "@inquirer/prompts";'],
    ["src/catalog/tables.ts", 'import { migrations } from "#migrations";\nimport { sql } from "kysely";'],
    ["src/postgres/tools.ts", 'import { execa } from "execa";'],
    ["src/storage/some-package.d.ts", 'declare module "some-package";'],
    ["src/domain/time.ts", "export const at = (ms: number): Date => new Date(ms);"],
    ["src/engine/a.ts", "// process.exit(1), import fs from 'fs'\nconst text = \"Date.now()\";"],
    ["src/engine/a.ts", "const text = `new Date() $" + "{`Math.random() $" + "{1}`} import('zod')`;"],
    ["src/domain/a.ts", 'const quote = /["\'`/]/g; const half = a / b; // "'],
    ["src/engine/a.ts", "this.process.exit(); job.import('x');"],
    ["src/domain/a.ts", 'export type Kind = "from";\nexport const from = "node:fs";'],
    ["src/domain/a.ts", 'export type { Kind } from "./b.js";\nimport type from "./c.js";'],
  ])("%s: %s", (path, code) => {
    expect(problemsOf(path, code)).toEqual([]);
  });

  test("code inside a template is seen, at its line", () => {
    expect(problemsOf("src/engine/a.ts", `const a = \`one\n\${new Date()} two\`;\nprocess.exit();`)).toEqual([
      "src/engine/a.ts:2: only src/sys/clock.ts reads the current time",
      "src/engine/a.ts:3: only src/main.ts calls process.exit",
    ]);
  });
});
