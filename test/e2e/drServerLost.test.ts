import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

test("on a bare host the lines of the kit, and nothing else, bring everything back to the last archived commit", async () => {
  const kitFile = join(folder, "kit.txt");
  await site.json(["keys", "kit", "--out", kitFile]);
  const kit = readFileSync(kitFile, "utf8");
  await loseServer(server);

  const host = join(folder, "host");
  mkdirSync(host);
  const [, key = ""] = /^1\. PRIVATE KEYS.*\n {3}(\S+)$/m.exec(kit) ?? [];
  writeFileSync(join(host, "identity"), `${key}\n`, { mode: 0o600 });
  const [, lines = ""] = /into a file named jbackup\.yaml:\n\n((?: {5}.*\n)+)/.exec(kit) ?? [];
  // what answered at the old address is gone for good: whatever is looked at from now on is what comes back
  const settings = lines.replace(/^ {5}/gm, "").replace(/port=\d+/, "port=1");
  writeFileSync(join(host, "jbackup.yaml"), settings, { mode: 0o600 });
  const directory = join(folder, "data");
  const typed = [...kit.matchAll(/^ {5}jbackup (.+)$/gm)].map(([, words = ""]) =>
    (words.match(/"[^"]*"|\S+/g) ?? []).map((word) => word.replaceAll('"', "")),
  );
  const type = async (begin: string, into: string, ...more: string[]): Promise<string> => {
    const words = typed.find((one) => one.join(" ").startsWith(begin)) ?? [];
    const filled = words.map((word) => word.replace("NEW_DIRECTORY", into));
    const ran = await site.start([...filled, ...more, "--json"], {
      JBACKUP_HOME: join(host, "home"),
      JBACKUP_CONFIG: join(host, "jbackup.yaml"),
    });
    expect([begin, ran.code, ran.code === 0 ? "" : ran.stderr + ran.stdout]).toEqual([begin, 0, ""]);
    return ran.stdout;
  };
  await type("keys test", "");
  await type("catalog rebuild", "");
  expect(JSON.parse(await type("list", "")).length).toBeGreaterThan(0);
  await type("restore --mode pitr", join(folder, "plain"));
  expect(existsSync(join(folder, "plain", "PG_VERSION"))).toBe(true);
  const stdout = await type("dr run server-lost", directory, "--incident-at", "10m", "--yes");
  const answer = JSON.parse(stdout);
  const report = expectWholeReport(answer);
  expect(report.rtoMs).toBeGreaterThan(600_000);
  const config = join(dirname(answer.report), "config");
  expect(readFileSync(join(config, "install-plan.md"), "utf8")).toContain("postgresql-");
  expect(readFileSync(join(config, "files", site.configFile), "utf8")).toContain("site: shop");
  expect(await contentOf(server.url("shop"))).toEqual(before);
});
