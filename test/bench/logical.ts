// How long a logical backup and its restore take, against the pipeline that one would write by hand, in the same run:
//   npm run bench:logical -- [--megabytes 2000] [--rounds 3]
import "./sources.ts";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

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

interface Measured {
  seconds: number;
  peakMib: number;
}

const peakOf = (pid: number): number => {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0; // it has ended
  }
};

async function measure(
  pid: number,
  ended: Promise<{ code: number | null; stderr: string }>,
): Promise<Measured> {
  const started = performance.now();
  let peakMib = 0;
  const timer = setInterval(() => {
    peakMib = Math.max(peakMib, peakOf(pid));
  }, 20);
  const { code, stderr } = await ended;
  clearInterval(timer);
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
  return { seconds: (performance.now() - started) / 1000, peakMib };
}

function shell(script: string, env: NodeJS.ProcessEnv): Promise<Measured> {
  const child = spawn("bash", ["-euo", "pipefail", "-c", script], {
    env,
    stdio: ["ignore", "inherit", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stderr }));
  });
  return measure(child.pid as number, ended);
}

const median = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

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
      found[what].byHand.push(await shell(byHand[what], env));
      await query(server.url(), "drop database if exists copy", "checkpoint");
      const running = site.start(ours[what]);
      found[what].ours.push(await measure(running.pid, running));
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
