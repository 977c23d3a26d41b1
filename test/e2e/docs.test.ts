import { execFile } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { PAGES, runIn } from "../support/docs.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { BIN } from "../support/site.js";
import { seedSql, TENANT_SHOP_SQL } from "../support/tenantShop.js";

/** Each page stands for itself, but for the site that the README sets up. */
const RUN = PAGES.filter((page) => runIn(page, "run").length > 0);

let server: TestPostgres;
let folder: string;

beforeAll(async () => {
  server = await startPostgres({ settings: { wal_level: "replica" } });
  await query(server.url(), "create database shop");
  await query(server.url("shop"), TENANT_SHOP_SQL + seedSql(1, 3, 10));
  folder = mkdtempSync(join(tmpdir(), "jbackup-docs-"));
  mkdirSync(join(folder, "bin"));
  const command = join(folder, "bin/jbackup");
  writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${BIN}' "$@"\n`);
  chmodSync(command, 0o755);
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await server?.stop();
});

/** Types the lines into a shell, one after the other; the first that fails ends it, and is named. */
function typed(lines: string[]): Promise<string> {
  const environment = {
    PATH: `${join(folder, "bin")}:${server.binDirectory}:${process.env.PATH}`,
    HOME: folder,
    JBACKUP_HOME: join(folder, "home"),
    PGHOST: server.directory,
    PGUSER: "postgres",
  };
  const script = [
    "set -euo pipefail",
    ...lines.flatMap((line) => [`echo ${quoted(`$ ${line}`)}`, line]),
  ].join("\n");
  return new Promise((resolve, reject) => {
    execFile(
      "bash",
      ["-c", script],
      { cwd: folder, env: environment, encoding: "utf8" },
      (error, stdout, stderr) =>
        error === null
          ? resolve(stdout)
          : reject(new Error(`ended with ${error.code}:\n${stdout}\n${stderr}`)),
    );
  });
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

test.each(RUN)("what %s says to type does what it says", async (page) => {
  const lines = runIn(page, "run");
  const output = await typed(lines);
  for (const line of lines) expect(output).toContain(`$ ${line}`);
  const leftovers = await query(
    server.url("postgres"),
    "select datname from pg_database where datname like '%jbackup%' or datname like '%\\_old\\_%'",
  );
  expect(leftovers).toEqual([]);
  await query(server.url(), "drop database if exists shop_check");
});

test("the pages that promise a way back are among them", () => {
  expect(RUN[0]).toBe("README.md"); // it sets the site up
  expect(RUN).toEqual(
    expect.arrayContaining(["docs/first-backup.md", "docs/point-in-time.md", "docs/restore-one-tenant.md"]),
  );
});
