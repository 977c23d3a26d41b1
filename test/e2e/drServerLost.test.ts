import { cpSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import {
  expectWholeReport,
  leftovers,
  loseServer,
  openFolder,
  ownTemporary,
  stopOn,
} from "../support/runbooks.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;
let before: Record<string, string>;
let folder: string;

beforeAll(async () => {
  folder = openFolder();
  server = await startPostgres({ settings: { wal_level: "replica" } });
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) as note from generate_series(1, 5000) g",
  );
  site = await makeSite({ url: server.url("shop"), name: "shop" });
  ownTemporary(site, folder);
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  await site.json(["backup", "config"]);
  await query(server.url("shop"), "insert into orders select g, 'late' from generate_series(5001, 5100) g");
  await site.json(["backup", "wal"]);
  before = await contentOf(server.url("shop"));
});

afterAll(async () => {
  await site?.remove();
  await stopOn(join(folder, "data"), server.binDirectory);
  await stopOn(server.dataDirectory, server.binDirectory);
  rmSync(server.directory, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
});

test("a drill brings the server up beside the living one, measures it, and leaves nothing", async () => {
  const answer = await site.json(["dr", "run", "server-lost", "--drill"]);
  expect(answer).toMatchObject({ runbook: "server-lost", drill: true, status: "succeeded" });
  const report = expectWholeReport(answer, ["install", "switch", "protect"]);
  expect(report.rtoMs).toBeLessThan(120_000);
  expect(report.rpoMs).toBeLessThan(120_000);
  expect(leftovers(site)).toEqual([]);
  expect(await contentOf(server.url("shop"))).toEqual(before);
  const [listed] = (await site.json(["dr", "list"])).filter(
    ({ name }: { name: string }) => name === "server-lost",
  );
  expect(listed).toMatchObject({ lastRun: null, lastDrill: { id: answer.id, status: "succeeded" } });
});

test("on a bare host the runbook brings everything back to the last archived commit", async () => {
  await loseServer(server);
  const home = join(folder, "home");
  cpSync(join(site.home, "keys"), join(home, "keys"), { recursive: true });
  const directory = join(folder, "data");
  const ran = await site.start(
    [
      "dr",
      "run",
      "server-lost",
      "--incident-at",
      "10m",
      "--set",
      `directory=${directory}`,
      "--yes",
      "--json",
    ],
    { JBACKUP_HOME: home },
  );
  expect(ran).toMatchObject({ code: 0 });
  const answer = JSON.parse(ran.stdout);
  const report = expectWholeReport(answer);
  expect(report.rtoMs).toBeGreaterThan(600_000);
  const config = join(dirname(answer.report), "config");
  expect(readFileSync(join(config, "install-plan.md"), "utf8")).toContain("postgresql-");
  expect(readFileSync(join(config, "files", site.configFile), "utf8")).toContain("site: shop");
  expect(await contentOf(server.url("shop"))).toEqual(before);
});
