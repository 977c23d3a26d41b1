// Tenants by workers that share a queue, one worker against two, and one of two killed on the way:
//   npm run bench:workers -- [--tenants 1000] [--rows 6] [--batch 50] [--json]
import "./sources.ts";
import { type ChildProcess, spawn } from "node:child_process";
import { parseArgs } from "node:util";

const { startPostgres } = await import("../support/postgres.js");
const { BIN, makeSite } = await import("../support/site.js");
const { openQuery, SHOP_ROLE_SQL, seedSql, SHOP_TENANTS, TENANT_SHOP_SQL, tenantId } = await import(
  "../support/tenantShop.js"
);

const { values } = parseArgs({
  options: {
    tenants: { type: "string", default: "1000" },
    rows: { type: "string", default: "6" },
    batch: { type: "string", default: "50" },
    json: { type: "boolean", default: false },
  },
});
const tenants = Number(values.tenants);
const say = (text: string): void => void process.stderr.write(`${text}\n`);

const server = await startPostgres({ settings: { shared_buffers: "256MB", autovacuum: "off" } });
const admin = await openQuery(server.url());
await admin.sql("create database shop");
await admin.sql("create database catalog");
await admin.close();
const shop = await openQuery(server.url("shop"));
say(`filling ${tenants} tenants`);
await shop.sql(TENANT_SHOP_SQL + SHOP_ROLE_SQL);
for (let from = 1; from <= tenants; from += 500)
  await shop.sql(`${seedSql(from, Math.min(tenants, from + 499), Number(values.rows))}; analyze`);
await shop.sql("update app.tenants set status = 'ACTIVE'; analyze");

const site = await makeSite({
  url: server.url("shop"),
  more: [...SHOP_TENANTS, `catalog: {url: "${server.url("catalog")}"}`],
});
await site.json(["backup", "tenant", "--tenant", tenantId(1)]);

function startWorker(): ChildProcess {
  return spawn(process.execPath, [BIN, "schedule", "run", "--worker", "--quiet"], {
    env: site.environment,
    stdio: ["ignore", "ignore", "inherit"],
  });
}

interface Round {
  what: string;
  seconds: number;
  perSecond: number;
  once: number;
  twice: number;
}

/** Workers are up before the order is given; killed: how long after it one of them dies. */
async function round(what: string, many: number, killAfterMs: number | null): Promise<Round> {
  await shop.sql("update app.items set price = price + 1");
  const workers = Array.from({ length: many }, startWorker);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const since = new Date().toISOString();
  const startedMs = performance.now();
  if (killAfterMs !== null) setTimeout(() => workers[0]?.kill("SIGKILL"), killAfterMs);
  const done = await site.json(["backup", "tenant", "--all", "--queue", "--batch", values.batch]);
  const seconds = (performance.now() - startedMs) / 1000;
  for (const worker of workers) worker.kill("SIGTERM");
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const listed = await site.json([
    "list",
    "--kind",
    "tenant",
    "--status",
    "completed",
    "--since",
    since,
    "--limit",
    "100000",
  ]);
  const times = new Map<string, number>();
  for (const one of listed) times.set(one.tenantId, (times.get(one.tenantId) ?? 0) + 1);
  const once = [...times.values()].filter((count) => count === 1).length;
  const twice = [...times.values()].filter((count) => count > 1).length;
  if (done.failed.length > 0 || once !== tenants || twice !== 0)
    throw new Error(`${what}: ${once} tenants once, ${twice} more often, ${done.failed.length} failed`);
  const found = { what, seconds, perSecond: Math.round(tenants / seconds), once, twice };
  say(`${what}: ${seconds.toFixed(1)} s, ${found.perSecond} tenants/s`);
  return found;
}

const rounds = [
  await round("one worker", 1, null),
  await round("two workers", 2, null),
  await round("two workers, one killed with -9 half-way", 2, 1_500),
];
const [one, two] = rounds as [Round, Round];
const lines = [
  `${tenants} tenants in batches of ${values.batch}; each backed up exactly once in every round`,
  ...rounds.map(
    ({ what, seconds, perSecond }) => `${what.padEnd(42)} ${seconds.toFixed(1)} s  ${perSecond} tenants/s`,
  ),
  `two workers are ${(one.seconds / two.seconds).toFixed(2)} times as fast as one`,
];
process.stdout.write(values.json ? `${JSON.stringify({ tenants, rounds })}\n` : `${lines.join("\n")}\n`);
await shop.close();
await site.remove();
await server.stop();
