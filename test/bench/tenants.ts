// Backups of many small tenants, against a bare COPY per tenant and table, and a pg_dump per tenant:
//   npm run bench:tenants -- [--tenants 1000] [--rows 6] [--remote] [--json]
import "./sources.ts";
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { measure, median } from "./measure.ts";

const { startPostgres } = await import("../support/postgres.js");
const { makeSite } = await import("../support/site.js");
const {
  OF_TENANT,
  openQuery,
  OWNED_TABLES,
  SHOP_ROLE_SQL,
  seedSql,
  SHOP_TENANTS,
  TENANT_SHOP_SQL,
  tenantId,
} = await import("../support/tenantShop.js");

const { values } = parseArgs({
  options: {
    tenants: { type: "string", default: "1000" },
    rows: { type: "string", default: "6" },
    rounds: { type: "string", default: "3" },
    remote: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const tenants = Number(values.tenants);
const rounds = Number(values.rounds);
const say = (text: string): void => void process.stderr.write(`${text}\n`);

const server = await startPostgres({ settings: { shared_buffers: "256MB", autovacuum: "off" } });
const admin = await openQuery(server.url());
await admin.sql("create database shop");
await admin.close();
const shop = await openQuery(server.url("shop"));
say(`filling ${tenants} tenants`);
await shop.sql(TENANT_SHOP_SQL + SHOP_ROLE_SQL);
for (let from = 1; from <= tenants; from += 500)
  await shop.sql(`${seedSql(from, Math.min(tenants, from + 499), Number(values.rows))}; analyze`);
await shop.sql("update app.tenants set status = 'ACTIVE'; analyze");

const remote = values.remote ? await startRemotes() : null;
const site = await makeSite({
  url: server.url("shop"),
  storages: (place) => [
    `- {name: local, kind: local, path: ${join(place, "local")}}`,
    ...(remote?.storages ?? []),
  ],
  environment: remote?.environment ?? {},
  more: SHOP_TENANTS,
});

async function startRemotes() {
  const { startSwift } = await import("../support/swift.js");
  const { startB2Server } = await import("../support/b2Server.js");
  const [swift, b2] = await Promise.all([startSwift(), startB2Server()]);
  await swift.createBucket("shop");
  b2.createBucket("shop");
  return {
    storages: [
      `- {name: r2, kind: s3, endpoint: "${swift.endpoint}", bucket: shop, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: {env: S3_SECRET}}`,
      `- {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: shop, keyId: {env: B2_ID}, applicationKey: {env: B2_KEY}}`,
    ],
    environment: { S3_SECRET: swift.secretAccessKey, B2_ID: b2.keyId, B2_KEY: b2.applicationKey },
    stop: () => Promise.all([swift.stop(), b2.stop()]),
  };
}

/** One COPY per tenant and table, one connection per core: the least that reading tenant by tenant can cost. */
async function bareCopies(): Promise<number> {
  const startedAt = performance.now();
  const { to } = await import("pg-copy-streams");
  const ids = Array.from({ length: tenants }, (_, nth) => tenantId(nth + 1))[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    const client = new pg.Client({ connectionString: server.url("shop") });
    await client.connect();
    for (const id of ids)
      for (const [table, condition] of Object.entries(OF_TENANT)) {
        const rows = `select * from app.${table} t where ${condition.replaceAll("$1", `'${id}'`)}`;
        for await (const _ of client.query(to(`copy (${rows}) to stdout`)));
      }
    await client.end();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return (performance.now() - startedAt) / 1000;
}

/** A loop over tenants with pg_dump and row-level security, for a few of them. */
function dumpLoop(few: number): number {
  const startedAt = performance.now();
  for (let nth = 1; nth <= few; nth++) {
    const options = `-c role=shop_app -c app.tenant_id=${tenantId(nth)}`;
    const { status, stderr } = spawnSync(
      join(server.binDirectory, "pg_dump"),
      [
        "--schema=app",
        "--data-only",
        "--enable-row-security",
        "--exclude-table=app.audit_log",
        "-f",
        "/dev/null",
        "-d",
        server.url("shop"),
      ],
      { env: { ...process.env, PGOPTIONS: options } },
    );
    if (status !== 0) throw new Error(stderr.toString());
  }
  return (performance.now() - startedAt) / 1000 / few;
}

const runs: { what: string; seconds: number; peakMib: number }[] = [];
for (let round = 0; round < rounds; round++) {
  for (const what of ["all anew", "all unchanged"]) {
    if (what === "all anew") await shop.sql("update app.items set price = price + 1");
    const running = site.start(["backup", "tenant", "--all", "--json"]);
    const measured = await measure({ pid: running.pid, ended: running });
    runs.push({ what, seconds: measured.seconds, peakMib: measured.peakMib });
    say(`${what}: ${measured.seconds.toFixed(1)} s, ${Math.round(tenants / measured.seconds)} tenants/s`);
  }
}
const bare = await bareCopies();
const dump = dumpLoop(5);
const middle = (what: string, of: "seconds" | "peakMib"): number =>
  median(runs.filter((run) => run.what === what).map((run) => run[of]));
const anew = middle("all anew", "seconds");
const lines = [
  `${tenants} tenants, ${OWNED_TABLES.length} tables, medians of ${rounds} rounds, ${values.remote ? "three storages" : "one local storage"}`,
  `all anew        ${anew.toFixed(1)} s  ${Math.round(tenants / anew)} tenants/s  peak ${Math.round(middle("all anew", "peakMib"))} MiB`,
  `all unchanged   ${middle("all unchanged", "seconds").toFixed(1)} s  ${Math.round(tenants / middle("all unchanged", "seconds"))} tenants/s`,
  `bare COPY per tenant and table   ${bare.toFixed(1)} s  (${(bare / anew).toFixed(2)} times as long as the backup)`,
  `pg_dump per tenant   ${(dump * tenants).toFixed(0)} s extrapolated  (${((dump * tenants) / anew).toFixed(0)} times as long)`,
];
process.stdout.write(
  values.json ? `${JSON.stringify({ tenants, runs, bare, dump })}\n` : `${lines.join("\n")}\n`,
);
await shop.close();
await site.remove();
await server.stop();
await remote?.stop();
