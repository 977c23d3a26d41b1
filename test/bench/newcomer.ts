import "./sources.ts";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const { query } = await import("../support/awkward.js");
const { ROOT, runIn } = await import("../support/docs.js");
const { startPostgres } = await import("../support/postgres.js");
const { seedSql, TENANT_SHOP_SQL } = await import("../support/tenantShop.js");

/** How long somebody new needs: from a clean clone to his own database backed up and brought back, by the README's lines alone. */
const folder = mkdtempSync(join(tmpdir(), "jbackup-newcomer-"));
const server = await startPostgres({ settings: { wal_level: "replica" } });
try {
  await query(server.url(), "create database shop");
  await query(server.url("shop"), TENANT_SHOP_SQL + seedSql(1, 20, 200));
  const clone = join(folder, "jbackup");
  const prefix = join(folder, "prefix");
  mkdirSync(join(prefix, "lib"), { recursive: true });
  const steps: [what: string, directory: string, lines: string[]][] = [
    ["clone", folder, [`git clone --quiet '${ROOT}' jbackup`]],
    ["install and build", clone, runIn("README.md", "setup")],
    ["back up and bring back", clone, runIn("README.md", "run")],
  ];
  // with npm's own settings of this machine, but nothing that it has installed or fetched before
  const path = (process.env.PATH ?? "").split(delimiter).filter((part) => !part.startsWith(ROOT));
  const environment = {
    ...process.env,
    PATH: [join(prefix, "bin"), ...path].join(delimiter),
    JBACKUP_HOME: join(folder, "home"),
    npm_config_prefix: prefix,
    npm_config_cache: join(folder, "npm"),
    PGHOST: server.directory,
  };
  let total = 0;
  for (const [what, directory, lines] of steps) {
    const startedMs = performance.now();
    for (const line of lines)
      execFileSync("bash", ["-c", line], {
        cwd: directory,
        env: environment,
        stdio: ["ignore", "ignore", "inherit"],
      });
    const seconds = (performance.now() - startedMs) / 1000;
    total += seconds;
    console.log(`${what.padEnd(24)} ${seconds.toFixed(1).padStart(6)} s   ${lines.length} lines`);
  }
  const [row] = await query(server.url("shop_check"), "select count(*)::text as rows from app.sales");
  const [live] = await query(server.url("shop"), "select count(*)::text as rows from app.sales");
  if (row?.rows !== live?.rows) throw new Error(`brought back ${row?.rows} sales of ${live?.rows}`);
  console.log(`from a clean clone to a database that came back: ${total.toFixed(0)} s`);
} finally {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
