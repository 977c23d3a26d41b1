import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { urlOn } from "../../../src/config/config.js";
import { Secret } from "../../../src/domain/secret.js";
import { realGround } from "../../../src/engine/dr/ground.js";
import type { Site } from "../../../src/engine/site.js";
import { serverOn } from "../../../src/postgres/restoredCluster.js";

const folder = mkdtempSync(join(tmpdir(), "jbackup-started-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const data = join(folder, "data");
mkdirSync(data);
const pidFile = (...lines: (string | number)[]): void =>
  writeFileSync(join(data, "postmaster.pid"), [...lines, ""].join("\n"));

const CONFIGURED = "postgresql://app:pass@old.example:5432/shop?sslmode=require";
let asked: string[];
let filesOf: string | null;
beforeEach(() => {
  asked = [];
  filesOf = data;
  pidFile(process.pid, data, 1, 6001, "/run/new", "localhost");
});

const sessionOn = (url: string) => ({
  rows: async () => {
    asked.push(url);
    return [{ found: filesOf }];
  },
  close: async () => undefined,
});
const site = {
  config: { database: { binDirectory: "auto" } },
  environment: { systemUser: "postgres", path: "", home: "" },
  clock: { now: () => new Date() },
  postgres: async () => ({ connect: async () => sessionOn(CONFIGURED) }),
  urlOn: async (place: { host: string; port: string }) => new Secret(urlOn(CONFIGURED, place)),
  clusters: async () => ({
    isRunning: async () => true,
    serverOn,
    openPostgres: ({ url }: { url: Secret }) => ({ connect: async () => sessionOn(url.reveal()) }),
  }),
} as unknown as Site;

const NEW = "postgresql://app:pass@/shop?host=%2Frun%2Fnew&port=6001";

test("before a server was started the configured one is asked, and from then on the started one", async () => {
  const ground = realGround(site);
  await (await ground.session()).rows("select 1");
  await ground.start(data);
  await (await ground.session()).rows("select 2");
  expect(asked).toEqual([CONFIGURED, NEW, NEW]);
});

test("a run that is gone on with asks the server that it had started", async () => {
  await (await realGround(site, data).session()).rows("select 1");
  expect(asked).toEqual([NEW, NEW]);
});

test("a server on other files is refused, and a role that may not look is believed", async () => {
  filesOf = join(folder, "old");
  await expect(realGround(site, data).session()).rejects.toMatchObject({
    code: "verification_failed",
    message: `the server that answers on the socket of ${data} works on ${filesOf}`,
  });
  filesOf = null;
  await realGround(site, data).session();
});

test("a server that ended since is said to be down, whatever the configuration names", async () => {
  pidFile(999_999_999, data, 1, 6001, "/run/new", "localhost");
  await expect(realGround(site, data).session()).rejects.toMatchObject({
    code: "postgres_unreachable",
    message: `no server runs on ${data} any more`,
  });
});

test.each([
  [["/run/postgresql", "localhost"], "/run/postgresql"],
  [["", "10.0.0.5"], "10.0.0.5"],
  [["", "*"], "localhost"],
  [[".", ""], data],
])("a server that wrote %j is reached at %s", async (lines, host) => {
  pidFile(process.pid, data, 1, 5433, ...lines);
  expect(await serverOn(data)).toEqual({ host, port: "5433" });
});
