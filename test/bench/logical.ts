// How long a logical backup and its restore take, against the pipeline that one would write by hand, in the same run:
//   npm run bench:logical -- [--megabytes 2000] [--rounds 3]
import "./sources.ts";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Measured, measure, median, shell } from "./measure.ts";

const { startPostgres } = await import("../support/postgres.js");
const { makeSite } = await import("../support/site.js");
const { query } = await import("../support/awkward.js");

const { values } = parseArgs({
  options: { megabytes: { type: "string", default: "2000" }, rounds: { type: "string", default: "3" } },
});
const wantedMegabytes = Number(values.megabytes);
const rounds = Number(values.rounds);

/** Half of it digests, which do not compress, half of it words, which do. */
const ROWS_PER_MEGABYTE = 3_050;
const TABLES = 4;

const server = await startPostgres({
  settings: { shared_buffers: "256MB", max_wal_size: "4GB", autovacuum: "off" },
});
const site = await makeSite({ url: server.url("bench") });
const folder = mkdtempSync(join(tmpdir(), "jbackup-bench-"));
try {
  await query(server.url(), "create database bench");
  for (let table = 0; table < TABLES; table++) {
    await query(
      server.url("bench"),
      `create table orders_${table} (id bigint primary key, customer int, at timestamptz, digest bytea, note text)`,
      `insert into orders_${table} select g, g % 10007, '2026-01-01'::timestamptz + g * interval '1 second',
         decode(md5(g::text) || md5((g * 7)::text) || md5((g * 13)::text) || md5((g * 17)::text), 'hex'),
         repeat('order ' || g % 1000 || ' of a customer, ', 6) from generate_series(1, ${Math.round((wantedMegabytes * ROWS_PER_MEGABYTE) / TABLES)}) g`,
      `create index on orders_${table} (customer)`,
    );
  }
  await query(server.url("bench"), "vacuum analyze");
  const [size] = await query(server.url(), "select pg_database_size('bench')::text as bytes");
  const megabytes = Number(size?.bytes) / 1e6;
  console.log(`database: ${megabytes.toFixed(0)} MB, ${rounds} rounds`);

  const env = {
    PATH: `${server.binDirectory}:${process.env.PATH}`,
    PGHOST: server.socketDirectory,
    PGPORT: String(server.port),
    PGUSER: "postgres",
    PASS: "bench",
  };
  const file = join(folder, "by-hand");
  const byHand = {
    backup: `pg_dump -Fc --compress=0 bench | zstd -q -3 | openssl enc -aes-256-ctr -pbkdf2 -pass env:PASS > ${file}`,
    restore: `createdb copy; openssl enc -d -aes-256-ctr -pbkdf2 -pass env:PASS < ${file} | zstd -q -d > ${file}.dump; pg_restore --exit-on-error -j 4 -d copy ${file}.dump; rm ${file}.dump`,
  };
  const ours = {
    backup: ["backup", "full", "--logical", "--quiet"],
    restore: ["restore", "--into-db", "copy", "--reason", "bench", "--quiet"],
  };
  const found: Record<"backup" | "restore", { ours: Measured[]; byHand: Measured[] }> = {
    backup: { ours: [], byHand: [] },
    restore: { ours: [], byHand: [] },
  };
  for (let round = 0; round < rounds; round++) {
    for (const what of ["backup", "restore"] as const) {
      await query(server.url(), "checkpoint");
      found[what].byHand.push(await measure(shell(byHand[what], { env })));
      await query(server.url(), "drop database if exists copy", "checkpoint");
      const running = site.start(ours[what]);
      found[what].ours.push(await measure({ pid: running.pid, ended: running }));
      await query(server.url(), "drop database if exists copy");
    }
  }
  const storedMegabytes = Number((await site.json(["list"]))[0].storedBytes) / 1e6;
  console.log(
    `stored: ${storedMegabytes.toFixed(0)} MB; by hand ${(statSync(file).size / 1e6).toFixed(0)} MB`,
  );
  for (const what of ["backup", "restore"] as const) {
    const seconds = median(found[what].ours.map((one) => one.seconds));
    const peer = median(found[what].byHand.map((one) => one.seconds));
    const peakMib = Math.max(...found[what].ours.map((one) => one.peakMib));
    console.log(
      `${what.padEnd(8)} ${seconds.toFixed(1)} s, ${(megabytes / seconds).toFixed(0)} MB/s, peak ${peakMib.toFixed(0)} MiB resident; by hand ${peer.toFixed(1)} s, ${(megabytes / peer).toFixed(0)} MB/s; takes ${(seconds / peer).toFixed(2)} of the time`,
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
  await site.remove();
  await server.stop();
}
