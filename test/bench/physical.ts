// Physical backups, restores and WAL against pgBackRest, in the same run, as ratios:
//   npm run bench -- [--megabytes 2000] [--rounds 3] [--segments 500] [--json]
import "./sources.ts";
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Measured, measure, median, shell, usageOfAll } from "./measure.ts";
import { findPgBackRest, type Peer } from "./pgbackrest.ts";

const { startPostgres } = await import("../support/postgres.js");
const { makeSite } = await import("../support/site.js");
const { query } = await import("../support/awkward.js");

const { values } = parseArgs({
  options: {
    megabytes: { type: "string", default: "2000" },
    rounds: { type: "string", default: "3" },
    segments: { type: "string", default: "500" },
    json: { type: "boolean", default: false },
  },
});
const megabytes = Number(values.megabytes);
const rounds = Number(values.rounds);
const segments = Number(values.segments);
const say = (text: string): void => void process.stderr.write(`${text}\n`);

const folder = mkdtempSync(join(tmpdir(), "jbackup-bench-"));
chmodSync(folder, 0o755);
const server = await startPostgres({
  initdb: ["-k"],
  settings: {
    shared_buffers: "256MB",
    max_wal_size: "16GB",
    autovacuum: "off",
    wal_level: "replica",
    full_page_writes: "on",
    archive_mode: "on",
    archive_command: "''",
  },
});
const site = await makeSite({ url: server.url("bench") });

interface Result {
  what: string;
  ours: Measured[];
  theirs: Measured[];
}
const results: Result[] = [];
const facts: Record<string, unknown> = {};

const bytesIn = (directory: string): number =>
  readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => statSync(join(directory, name)))
    .reduce((sum, stat) => sum + (stat.isFile() ? stat.size : 0), 0);

const ownerOf = (path: string): { uid: number; gid: number } | null => {
  const { uid, gid } = statSync(path);
  return process.getuid?.() === 0 ? { uid, gid } : null;
};

function emptyDirectory(name: string): string {
  const directory = join(folder, name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { mode: 0o700 });
  const owner = ownerOf(server.dataDirectory);
  if (owner) chownSync(directory, owner.uid, owner.gid);
  return directory;
}

const ours = (...args: string[]): Promise<Measured> => {
  const running = site.start([...args, "--quiet"]);
  return measure({ pid: running.pid, ended: running });
};

/** Half of it pgbench's rows, half of it words in an order that never comes again. */
async function fill(): Promise<void> {
  await query(server.url(), "create database bench");
  const pgbench = join(server.binDirectory, "pgbench");
  const scale = Math.max(1, Math.round(megabytes / 2 / 15));
  await measure(shell(`${pgbench} -i -q -s ${scale} '${server.url("bench")}'`));
  await query(
    server.url("bench"),
    `create table docs as select g as id, (select string_agg(substr(md5((g * 31 + i)::text), 1, 2 + (i * g) % 7), ' ') from generate_series(1, 60) i) as body
       from generate_series(1, ${Math.round(megabytes * 1250)}) g`,
    "checkpoint",
  );
}

/** One page in a hundred. */
const update = (): Promise<unknown> =>
  query(
    server.url("bench"),
    "update pgbench_accounts set abalance = abalance + 1 where aid % 6100 between 1 and 61",
    "checkpoint",
  );

function breakSome(directory: string): void {
  const base = join(directory, "base");
  const files = readdirSync(base, { recursive: true, encoding: "utf8" })
    .map((name) => join(base, name))
    .filter((path) => statSync(path).isFile() && statSync(path).size > 8192);
  for (const path of files.filter((_, nth) => nth % 50 === 0)) truncateSync(path, 8192);
}

/**
 * On a virtual machine, memory that the host has taken back costs more at its first touch than all the work on it. Both
 * begin with as much of it as they need, just given free.
 */
function warmMemory(bytes: number): void {
  const path = join(folder, "warm");
  const file = openSync(path, "w");
  const piece = Buffer.alloc(2 ** 24, 1);
  for (let at = 0; at < bytes; at += piece.length) writeSync(file, piece);
  closeSync(file);
  rmSync(path);
}

async function round(peer: Peer | string, nth: number): Promise<void> {
  const take = async (
    what: string,
    our: () => Promise<Measured>,
    their: (peer: Peer) => Promise<Measured>,
  ) => {
    const result = results.find((one) => one.what === what) ?? { what, ours: [], theirs: [] };
    if (!results.includes(result)) results.push(result);
    const oneOf = {
      ours: async () => result.ours.push(await our()),
      theirs: async () => typeof peer !== "string" && result.theirs.push(await their(peer)),
    };
    // whoever is second finds another machine than the first one did
    for (const who of nth % 2 === 0 ? (["theirs", "ours"] as const) : (["ours", "theirs"] as const)) {
      await query(server.url(), "checkpoint");
      warmMemory(bytesIn(join(server.dataDirectory, "base")) * 1.5);
      await oneOf[who]();
    }
    say(
      `${what}: ${result.ours.at(-1)?.seconds.toFixed(1)} s, peer ${result.theirs.at(-1)?.seconds.toFixed(1) ?? "-"} s`,
    );
  };
  await take(
    "full",
    () => ours("backup", "full", "--fresh"),
    (one) => one.backup("full"),
  );
  facts.fullStoredBytes = (await site.json(["list", "--kind", "full", "--limit", "1"]))[0].storedBytes;
  await update();
  await take(
    "incremental",
    () => ours("backup", "full"),
    (one) => one.backup("incr"),
  );
  facts.incrementalStoredBytes = (await site.json(["list", "--kind", "full", "--limit", "1"]))[0].storedBytes;
  const [mine, theirs] = [emptyDirectory("mine"), emptyDirectory("theirs")];
  const into = ["restore", "latest", "--into-dir", mine, "--reason", "bench"];
  await take(
    "restore",
    () => ours(...into),
    (one) => one.restore(theirs, false),
  );
  breakSome(mine);
  if (typeof peer !== "string") breakSome(theirs);
  await take(
    "delta restore",
    () => ours(...into, "--delta", "--confirm", mine),
    (one) => one.restore(theirs, true),
  );
  for (const directory of [mine, theirs]) rmSync(directory, { recursive: true });
}

const currentLsn = async (): Promise<string> =>
  (await query(server.url(), "select pg_current_wal_lsn()::text as lsn"))[0]?.lsn ?? "";

/** So many filled segments that nobody has archived yet. */
async function makeSegments(): Promise<string> {
  const begin = await currentLsn();
  const made = async (): Promise<number> =>
    Number(
      (
        await query(
          server.url(),
          `select ((pg_current_wal_lsn() - '${begin}'::pg_lsn) / 16777216)::int::text as many`,
        )
      )[0]?.many,
    );
  while ((await made()) < segments)
    await query(
      server.url("bench"),
      "create table fill as select g as id, md5(g::text) || ' ' || md5((g * 7)::text) as note, now() as at from generate_series(1, 700000) g",
      "drop table fill",
    );
  await query(server.url(), "select pg_switch_wal()", "checkpoint");
  return currentLsn();
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await delay(50);
}

async function pushWal(peer: Peer | string): Promise<void> {
  await ours("backup", "wal");
  say(`making ${segments} segments of WAL`);
  const end = await makeSegments();
  const result: Result = { what: `WAL push (${segments})`, ours: [], theirs: [] };
  results.push(result);
  if (typeof peer !== "string") {
    const last =
      (await query(server.url(), "select pg_walfile_name(pg_switch_wal()) as name"))[0]?.name ?? "";
    const started = performance.now();
    await query(
      server.url(),
      `alter system set archive_command = '${peer.archiveCommand}'`,
      "select pg_reload_conf()",
    );
    await until(
      async () =>
        ((
          await query(server.url(), "select coalesce(last_archived_wal, '') as name from pg_stat_archiver")
        )[0]?.name ?? "") >= last,
    );
    result.theirs.push({ seconds: (performance.now() - started) / 1000, peakMib: 0, cpuSeconds: 0 });
    say(`pgBackRest pushed them in ${result.theirs[0]?.seconds.toFixed(1)} s`);
  }
  const follower = site.start(["backup", "wal", "--follow", "--quiet"]);
  let peakMib = 0;
  let cpuSeconds = 0;
  const started = performance.now();
  await until(async () => {
    const usage = usageOfAll(follower.pid);
    peakMib = Math.max(peakMib, usage.residentMib);
    cpuSeconds = Math.max(cpuSeconds, usage.cpuSeconds);
    const [row] = await query(
      server.url(),
      `select (restart_lsn >= '${end}'::pg_lsn)::text as done from pg_replication_slots where slot_name = 'jbackup_test'`,
    );
    return row?.done === "true";
  });
  result.ours.push({ seconds: (performance.now() - started) / 1000, peakMib, cpuSeconds });
  process.kill(follower.pid, "SIGTERM");
  await follower;
}

/** What a commit costs when it waits for jbackup. */
async function commitLatency(): Promise<void> {
  const pgbench = async (): Promise<number> => {
    const began = performance.now();
    const transactions = 800;
    await measure(
      shell(
        `${join(server.binDirectory, "pgbench")} -n -c 4 -t ${transactions / 4} -N '${server.url("bench")}'`,
      ),
    );
    return ((performance.now() - began) / transactions) * 4;
  };
  await query(server.url(), "alter system set synchronous_commit = on", "select pg_reload_conf()");
  facts.commitMs = await pgbench();
  const follower = site.start(["backup", "wal", "--follow", "--quiet"]);
  await query(
    server.url(),
    "alter system set synchronous_standby_names = 'jbackup_test'",
    "select pg_reload_conf()",
  );
  await until(
    async () =>
      (await query(server.url(), "select sync_state from pg_stat_replication"))[0]?.sync_state === "sync",
  );
  await delay(6_000);
  facts.synchronousCommitMs = await pgbench();
  await query(server.url(), "alter system set synchronous_standby_names = ''", "select pg_reload_conf()");
  process.kill(follower.pid, "SIGTERM");
  await follower;
}

async function references(): Promise<void> {
  const owner = ownerOf(server.dataDirectory);
  const env = {
    PATH: `${server.binDirectory}:${process.env.PATH}`,
    PGHOST: server.socketDirectory,
    PGUSER: "postgres",
    PASS: "bench",
  };
  const directory = emptyDirectory("basebackup");
  rmSync(directory, { recursive: true });
  const place = emptyDirectory("references");
  facts.pgBasebackupSeconds = (
    await measure(
      shell(`pg_basebackup -D ${join(place, "base")} -X fetch --checkpoint=fast --no-sync`, { env, owner }),
    )
  ).seconds;
  facts.dumpPipelineSeconds = (
    await measure(
      shell(
        `pg_dump -Fc --compress=0 bench | zstd -q -3 | openssl enc -aes-256-ctr -pbkdf2 -pass env:PASS > ${join(place, "dump")}`,
        { env, owner },
      ),
    )
  ).seconds;
  rmSync(place, { recursive: true });
}

function report(clusterBytes: number): void {
  const rows = results.map(({ what, ours: our, theirs: their }) => {
    const of = (some: Measured[], what: "seconds" | "cpuSeconds"): number =>
      median(some.map((one) => one[what]));
    const [seconds, peer] = [of(our, "seconds"), of(their, "seconds")];
    const [cpu, peerCpu] = [of(our, "cpuSeconds"), of(their, "cpuSeconds")];
    return {
      what,
      seconds,
      peerSeconds: peer || null,
      ratio: peer ? peer / seconds : null,
      cpuSeconds: cpu,
      peerCpuSeconds: peerCpu || null,
      cpuRatio: peerCpu ? peerCpu / cpu : null,
      peakMib: Math.max(...our.map((one) => one.peakMib)),
    };
  });
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ clusterBytes, rounds, rows, ...facts }, null, 2)}\n`);
    return;
  }
  process.stdout.write(
    `cluster: ${(clusterBytes / 1e6).toFixed(0)} MB; medians of ${rounds} rounds; ${facts.peer}\n`,
  );
  const figure = (number: number | null, digits = 1): string => (number?.toFixed(digits) ?? "-").padStart(6);
  process.stdout.write(
    `${"".padEnd(16)} seconds  pgBackRest  times as fast   processor  pgBackRest  ratio  peak MiB\n`,
  );
  for (const row of rows)
    process.stdout.write(
      `${row.what.padEnd(16)} ${figure(row.seconds)}   ${figure(row.peerSeconds)}      ${figure(row.ratio, 2)}          ${figure(row.cpuSeconds)}     ${figure(row.peerCpuSeconds)}    ${figure(row.cpuRatio, 2)}  ${row.peakMib.toFixed(0)}\n`,
    );
  for (const [name, value] of Object.entries(facts)) process.stdout.write(`${name}: ${value}\n`);
}

try {
  say("filling a cluster");
  await fill();
  const clusterBytes = bytesIn(join(server.dataDirectory, "base"));
  const peer = findPgBackRest({
    folder: join(folder, "pgbackrest"),
    dataDirectory: server.dataDirectory,
    socketDirectory: server.socketDirectory,
    owner: ownerOf(server.dataDirectory),
    processes: availableParallelism(),
  });
  facts.peer = typeof peer === "string" ? peer : peer.version;
  if (typeof peer !== "string") {
    await peer.create();
    // backups of pgBackRest wait for their WAL
    await query(
      server.url(),
      `alter system set archive_command = '${peer.archiveCommand}'`,
      "select pg_reload_conf()",
    );
  }
  await ours("backup", "wal");
  for (let nth = 0; nth < rounds; nth++) await round(peer, nth);
  await references();
  await query(server.url(), "alter system set archive_command = ''", "select pg_reload_conf()");
  await pushWal(peer);
  await query(server.url(), "alter system set archive_command = '/bin/true'", "select pg_reload_conf()");
  await commitLatency();
  if (typeof peer !== "string") facts.peerRepositoryBytes = bytesIn(peer.repository);
  facts.ourRepositoryBytes = bytesIn(join(site.folder, "local"));
  report(clusterBytes);
} finally {
  await site.remove();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
