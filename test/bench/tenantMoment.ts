// One tenant at one moment out of a large cluster, against bringing the whole cluster back:
//   npm run bench:moment -- [--megabytes 2000] [--rounds 3]
import "./sources.ts";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { median } from "./measure.ts";

const { startPostgres } = await import("../support/postgres.js");
const { makeSite } = await import("../support/site.js");
const { openQuery, seedSql, SHOP_ROLE_SQL, SHOP_TENANTS, TENANT_SHOP_SQL, tenantId } = await import(
  "../support/tenantShop.js"
);

const { values } = parseArgs({
  options: { megabytes: { type: "string", default: "2000" }, rounds: { type: "string", default: "3" } },
});
const say = (text: string): void => void process.stderr.write(`${text}\n`);
const folder = mkdtempSync(join(tmpdir(), "jbackup-bench-"));
chmodSync(folder, 0o755); // a restored cluster may belong to somebody else than who runs this
const server = await startPostgres({
  settings: { shared_buffers: "256MB", max_wal_size: "8GB", autovacuum: "off" },
});
const admin = await openQuery(server.url());
await admin.sql("create database shop");
const shop = await openQuery(server.url("shop"));
say("filling a cluster");
await shop.sql(
  `${TENANT_SHOP_SQL + SHOP_ROLE_SQL + seedSql(1, 200, 6)}; create table app.filler (id bigint primary key, body text)`,
);
for (let mb = 0; mb < Number(values.megabytes); mb += 100)
  await shop.sql(
    `insert into app.filler select g, md5(g::text) || md5((g * 7)::text) || repeat(md5((g % 1000)::text), 10) from generate_series(${mb * 2300 + 1}, ${(mb + 100) * 2300}) g`,
  );
const site = await makeSite({
  url: server.url("shop"),
  more: SHOP_TENANTS.map((line) => line.replace("[app.audit_log]", "[app.audit_log, app.filler]")),
});
await site.json(["backup", "full"]);
// a moment that was read once is not read again, so every round has its own
const moments: string[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  const [moment] = await shop.sql(
    "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at",
  );
  moments.push(moment?.at ?? "");
}
await delay(1_100);
const id = tenantId(5);
await shop.sql(
  `delete from app.notes where tenant_id = '${id}'; update app.items set price = 1 where tenant_id = '${id}'`,
);
await site.json(["backup", "wal"]);

const seconds = async (work: () => Promise<unknown>): Promise<number> => {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
};
const whole: number[] = [];
const one: number[] = [];
const parts: Record<string, number>[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  const directory = join(folder, `whole${round}`);
  whole.push(
    await seconds(() =>
      site.json([
        "restore",
        "--into-dir",
        directory,
        "--mode",
        "pitr",
        "--to",
        moments[round] ?? "",
        "--reason",
        "bench",
      ]),
    ),
  );
  rmSync(directory, { recursive: true });
  one.push(
    await seconds(async () => {
      const done = await site.json([
        "restore",
        "--tenant",
        id,
        "--to",
        moments[round] ?? "",
        "--confirm",
        id,
        "--reason",
        "bench",
      ]);
      parts.push(done.metadata.times);
    }),
  );
  await shop.sql(`update app.items set price = 1 where tenant_id = '${id}'`);
  say(
    `round ${round + 1}: the cluster ${whole.at(-1)?.toFixed(1)} s, one tenant ${one.at(-1)?.toFixed(1)} s`,
  );
}
const [size] = await admin.sql("select round(sum(pg_database_size(oid)) / 1e6)::text as mb from pg_database");
const part = (name: string): string => (median(parts.map((times) => times[name] ?? 0)) / 1000).toFixed(1);
console.log(`cluster: ${size?.mb} MB; medians of ${values.rounds} rounds`);
console.log(`the whole cluster at a moment   ${median(whole).toFixed(1)} s`);
console.log(
  `one tenant at that moment       ${median(one).toFixed(1)} s  (${(median(one) / median(whole)).toFixed(2)} times as long)`,
);
console.log(
  `  of which: brought up in ${part("broughtUpMs")} s, tenant read in ${part("exportedMs")} s, compared, written and proved in ${part("restoredMs")} s`,
);
await Promise.all([shop.close(), admin.close()]);
await site.remove();
await server.stop();
rmSync(folder, { recursive: true, force: true });
