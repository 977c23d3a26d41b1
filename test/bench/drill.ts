import "./sources.ts";
import { rmSync } from "node:fs";

const { query } = await import("../support/awkward.js");
const { startPostgres } = await import("../support/postgres.js");
const { makeSite } = await import("../support/site.js");

/** A drill of "whole server lost" on a cluster of about 2 GB, or as many as are named: prints what it measured. */
const gigabytes = Number(process.argv[2] ?? 2);
const ROWS_PER_GIGABYTE = 4_600_000;

const server = await startPostgres({ settings: { wal_level: "replica", max_wal_size: "8GB" } });
const site = await makeSite({ url: server.url("shop"), name: "shop" }).catch(async (error) => {
  await server.stop();
  throw error;
});
try {
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    `create table orders as select g as id, md5(g::text) || md5((g * 7)::text) || md5((g * 13)::text) || md5((g * 29)::text) as note,
       now() as at from generate_series(1, ${Math.round(gigabytes * ROWS_PER_GIGABYTE)}) g`,
    "create index on orders (id)",
    "checkpoint",
  );
  const [size] = await query(
    server.url("shop"),
    "select sum(pg_database_size(oid))::text as bytes from pg_database",
  );
  console.log(`cluster: ${(Number(size?.bytes) / 1e9).toFixed(2)} GB`);
  await site.json(["backup", "wal"]);
  await site.json(["backup", "config"], [0, 3]);
  const backup = await site.json(["backup", "full"]);
  console.log(
    `backup: ${(backup.durationMs / 1_000).toFixed(1)} s, ${(backup.storedBytes / 1e9).toFixed(2)} GB stored`,
  );
  await query(server.url("shop"), "update orders set note = 'late' where id <= 100000");
  await site.json(["backup", "wal"]);
  const drill = await site.json(["dr", "run", "server-lost", "--drill"]);
  for (const { name, status, durationMs } of drill.steps)
    console.log(
      `  ${name.padEnd(10)} ${status.padEnd(8)} ${((durationMs ?? 0) / 1_000).toFixed(1).padStart(7)} s`,
    );
  console.log(
    `RTO: ${(drill.rtoMs / 1_000).toFixed(1)} s, RPO: ${(drill.rpoMs / 1_000).toFixed(1)} s, status: ${drill.status}`,
  );
} finally {
  await site.remove();
  await server.stop();
  rmSync(server.directory, { recursive: true, force: true });
}
