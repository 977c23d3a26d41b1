import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { startSwift } from "../support/swift.js";
import { startThrottle } from "../support/throttle.js";

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
async function peakOf(site: TestSite, args: string[]): Promise<{ code: number | null; peakMib: number }> {
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
    const { code, peakMib } = await peakOf(site, args);
    expect(code).toBe(0);
    expect(peakMib).toBeGreaterThan(40); // it was really measured
    expect(peakMib).toBeLessThan(LIMIT_MIB);
  }
});

test("a storage that is slow is fed from a finished copy, not from memory, and delays nobody", async () => {
  const swift = await startSwift();
  await swift.createBucket("shop");
  const throttle = await startThrottle(swift.endpoint, 8 * 2 ** 20);
  const slow = await makeSite({
    url: server.url("large"),
    storages: (folder) => [
      `- {name: local, kind: local, path: ${join(folder, "local")}}`,
      `- {name: slow, kind: s3, endpoint: "${throttle.endpoint}", bucket: shop, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: "${swift.secretAccessKey}"}`,
    ],
  });
  try {
    const { code, peakMib } = await peakOf(slow, ["backup", "full", "--logical"]);
    expect(code).toBe(0);
    expect(peakMib).toBeGreaterThan(40);
    expect(peakMib).toBeLessThan(LIMIT_MIB);
    const [backup] = await slow.json(["list"]);
    expect(backup.storedBytes).toBeGreaterThan(80e6); // more than the lanes may keep in memory
    expect(backup.copies).toMatchObject([{ status: "stored" }, { status: "stored" }]);
    rmSync(join(slow.folder, "local"), { recursive: true });
    await slow.json(["restore", backup.id, "--into-db", "from_slow", "--reason", "test"]);
    const digest = "select md5(string_agg(md5(t::text), '' order by id)) as digest from t";
    expect(await query(server.url("from_slow"), digest)).toEqual(await query(server.url("large"), digest));
  } finally {
    await slow.remove();
    await throttle.stop();
    await swift.stop();
  }
});
