import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

const LIMIT_MIB = 300;

let server: TestPostgres;
let site: TestSite;

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database large");
  // digests hardly compress, so that as many bytes as possible are on their way at the same time
  await query(
    server.url("large"),
    "create table t as select g as id, decode(md5(g::text) || md5((g * 7)::text) || md5((g * 13)::text), 'hex') as v from generate_series(1, 2500000) g",
  );
  site = await makeSite({
    url: server.url("large"),
    storages: (folder) =>
      ["a", "b", "c"].map((name) => `- {name: ${name}, kind: local, path: ${join(folder, name)}}`),
  });
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

/** The most memory that the process ever had resident, as the kernel counted it. */
async function peakOf(args: string[]): Promise<{ code: number | null; peakMib: number }> {
  const running = site.start(args);
  let peakMib = 0;
  const timer = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${running.pid}/status`, "utf8");
      peakMib = Math.max(peakMib, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
    } catch {
      // it has ended
    }
  }, 20);
  const { code } = await running;
  clearInterval(timer);
  return { code, peakMib };
}

test("a backup and a restore of a database larger than that stay below 300 MiB", async () => {
  const [size] = await query(server.url(), "select pg_database_size('large') / 1048576 as mib");
  expect(Number(size?.mib)).toBeGreaterThan(LIMIT_MIB / 2);
  for (const args of [
    ["backup", "full", "--logical"],
    ["restore", "--into-db", "copy", "--reason", "memory"],
  ]) {
    const { code, peakMib } = await peakOf(args);
    expect(code).toBe(0);
    expect(peakMib).toBeGreaterThan(40); // it was really measured
    expect(peakMib).toBeLessThan(LIMIT_MIB);
  }
});
