import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { expectWholeReport, leftovers, openFolder, ownTemporary, stopOn } from "../support/runbooks.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;
let folder: string;
let before: Record<string, string>;
let clean: string;

const content = (): Promise<Record<string, string>> => contentOf(server.url("shop"));

beforeAll(async () => {
  folder = openFolder();
  server = await startPostgres({ settings: { wal_level: "replica" } });
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table customers as select g as id, 'customer ' || g as name from generate_series(1, 1000) g",
  );
  site = await makeSite({ url: server.url("shop"), name: "shop" });
  ownTemporary(site, folder);
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  await query(server.url("shop"), "insert into customers values (1001, 'late')");
  before = await content();
  const [row] = await query(
    server.url("shop"),
    "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at from pg_sleep(0.3)",
  );
  clean = row?.at ?? "";
  await query(server.url("shop"), "select pg_sleep(0.3)", "update customers set name = 'pay 3 coins'");
  await site.json(["backup", "wal"]);
});

afterAll(async () => {
  await site?.remove();
  for (const directory of [join(folder, "clean"), server.dataDirectory])
    await stopOn(directory, server.binDirectory);
  for (const path of [server.directory, folder]) rmSync(path, { recursive: true, force: true });
});

test("a drill brings the cluster up and makes keys in its own folder", async () => {
  const answer = await site.json(["dr", "run", "ransomware", "--drill"]);
  expectWholeReport(answer, ["isolate", "take-over", "rotate", "opens", "tell"]);
  expect(leftovers(site)).toEqual([]);
});

test("a clean cluster comes up as of the last clean moment, beside the hurt one", async () => {
  // the hurt server is cut off: its socket is where the clean one answers from then on
  await stopOn(server.dataDirectory, server.binDirectory);
  const directory = join(folder, "clean");
  const ran = ["dr", "run", "ransomware", "--yes", "--set", `clean=${clean}`, `directory=${directory}`];
  expectWholeReport(await site.json(ran));
  expect(await content()).toEqual(before);
});
