// Makes docs/examples/test-restore-report.* anew: a real test restore of the demo's shop, on servers of its own.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { SHOP_SQL } from "../dist/engine/demo/shop.js";
import { startScratchCluster } from "../dist/postgres/scratchCluster.js";
import { findBinDirectories } from "../dist/postgres/tools.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const examples = join(root, "docs/examples");
const environment = { path: process.env.PATH ?? "", home: process.env.HOME ?? "/" };

const CONFIG = (folder, url) => `
site: shop-demo
database: {url: "${url}"}
storages:
  - {name: disk-a, kind: local, path: ${folder}/disk-a}
  - {name: disk-b, kind: local, path: ${folder}/disk-b}
  - {name: disk-c, kind: local, path: ${folder}/disk-c}
tenants:
  table: app.tenants
  nameColumn: company_name
  activeWhere: "status = 'ACTIVE'"
objectives: {rto: 1h, rpo: 5m}
testRestore:
  tenants: 2
  assertions:
    - name: every line of a sale belongs to a sale
      sql: >-
        select not exists (select from app.sale_items i
        where not exists (select from app.sales s where s.id = i.sale_id and s.sold_on = i.sold_on))
    - {name: the tenant that signed up last is there, sql: "select count(*) from app.tenants where slug = 'newest'", expect: 1}
`;

const [binaries] = await findBinDirectories("initdb", environment);
const folder = mkdtempSync(join(tmpdir(), "shop-"));
const cluster = await startScratchCluster({
  parentDirectory: tmpdir(),
  binDirectory: binaries.path,
  environment,
  settings: { wal_level: "replica", full_page_writes: "on" },
  initdb: ["--data-checksums"],
});

async function sql(database, text) {
  const client = new pg.Client({ connectionString: cluster.url(database) });
  await client.connect();
  await client.query(text);
  await client.end();
}

function jbackup(...args) {
  execFileSync(process.execPath, [join(root, "bin/jbackup.js"), ...args], {
    env: { ...process.env, JBACKUP_HOME: join(folder, "home"), JBACKUP_CONFIG: join(folder, "jbackup.yaml") },
    stdio: "inherit",
  });
}

try {
  chmodSync(folder, 0o755);
  await sql("postgres", "create database shop");
  await sql("shop", SHOP_SQL);
  writeFileSync(join(folder, "jbackup.yaml"), CONFIG(folder, cluster.url("shop")));
  jbackup("backup", "wal");
  jbackup("backup", "full");
  jbackup("backup", "tenant", "--all");
  await sql(
    "shop",
    "insert into app.tenants values (gen_random_uuid(), 'The newest shop', 'newest', 'SUSPENDED')",
  );
  jbackup("backup", "wal");
  mkdirSync(examples, { recursive: true });
  jbackup("verify", "--level", "restore");
  const reports = join(folder, "home/reports");
  for (const made of readdirSync(reports).filter((name) => /\.(txt|html)$/.test(name))) {
    const example = join(examples, `test-restore-report${extname(made)}`);
    copyFileSync(join(reports, made), example);
    chmodSync(example, 0o644);
  }
} finally {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
}
