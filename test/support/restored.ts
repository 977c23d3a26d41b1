import { execFileSync } from "node:child_process";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startRestored } from "../../src/postgres/restoredCluster.js";
import { query } from "./awkward.js";
import { environment } from "./postgres.js";

export interface RestoredServer {
  url(database?: string): string;
  /** Stops the server cleanly; its files stay. */
  stop(): Promise<void>;
}

/** Starts a restored data directory in private, as whoever owns it. */
export async function serveRestored(dataDirectory: string, binDirectory: string): Promise<RestoredServer> {
  const { uid, gid } = await stat(dataDirectory);
  const cluster = await startRestored({
    dataDirectory,
    privateDirectory: `${dataDirectory}-private`,
    binDirectory,
    environment,
    owner: process.getuid?.() === 0 ? { uid, gid } : null,
    options: {},
    superuser: "postgres",
    signal: new AbortController().signal,
  });
  const url = (database = "postgres"): string => cluster.url(database).reveal();
  await recovered(url());
  return { url, stop: () => cluster.stop("fast") };
}

/** A server that recovers answers questions before it has come to the end of its WAL. */
async function recovered(url: string): Promise<void> {
  const inRecovery = async (): Promise<boolean> =>
    (await query(url, "select pg_is_in_recovery()::text as yes"))[0]?.yes === "true";
  while (await inRecovery()) await delay(50);
}

/** What pgbench keeps equal at every commit: these totals differ only when a cluster is not consistent. */
export async function expectSameTotals(url: string): Promise<void> {
  const [totals] = await query(
    url,
    `select (select sum(abalance) from pgbench_accounts)::text as accounts, (select sum(bbalance) from pgbench_branches)::text as branches,
            (select sum(tbalance) from pgbench_tellers)::text as tellers, (select sum(delta) from pgbench_history)::text as history`,
  );
  if (new Set(Object.values(totals ?? {})).size !== 1)
    throw new Error(`totals differ: ${JSON.stringify(totals)}`);
}

/** Every relation by its own rules, on the running server. */
export function checkRelations(url: string, binDirectory: string): void {
  execFileSync(
    join(binDirectory, "pg_amcheck"),
    ["--install-missing", "--heapallindexed", "--all", `--maintenance-db=${url}`],
    {
      stdio: "pipe",
    },
  );
}

/** Every page's checksum, on the stopped one. */
export function checkPages(dataDirectory: string, binDirectory: string): void {
  execFileSync(join(binDirectory, "pg_checksums"), ["--check", "-D", dataDirectory], { stdio: "pipe" });
}

/** Every file is there at its length and none besides, and so is the WAL that makes them consistent. */
export function checkFiles(dataDirectory: string, binDirectory: string): void {
  const program = join(binDirectory, "pg_verifybackup");
  execFileSync(program, ["--exit-on-error", dataDirectory], { stdio: "pipe" });
}
