import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { type FaultProxy, startFaultProxy } from "../support/faultProxy.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { type Swift, startSwift } from "../support/swift.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

let server: TestPostgres;
let swift: Swift;
let b2: B2Server;
let proxy: FaultProxy;
let site: TestSite | undefined;
let rows: Record<string, string>;
const BACKUP = ["backup", "full", "--logical"];

const rowsOf = async (database: string): Promise<Record<string, string>> => {
  const { database: _, ...relations } = await contentOf(server.url(database));
  return relations;
};

beforeAll(async () => {
  [server, swift, b2] = await Promise.all([startPostgres(), startSwift(), startB2Server()]);
  await swift.createBucket("old");
  b2.createBucket("old");
  proxy = await startFaultProxy(swift.endpoint);
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table t as select g as id, md5(g::text) from generate_series(1, 2000) g",
  );
  rows = await rowsOf("shop");
});
afterEach(() => site?.remove());
afterAll(async () => {
  await proxy?.stop();
  await Promise.all([server?.stop(), swift?.stop(), b2?.stop()]);
});

const local = (path: string): string => `- {name: disk, kind: local, path: ${path}}`;
const s3 = (prefix: string): string =>
  `- {name: r2, kind: s3, endpoint: "${proxy.endpoint}", bucket: old, prefix: ${prefix}, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: ${swift.secretAccessKey}}`;

async function siteWith(storages: string[], names: string[]): Promise<TestSite> {
  site = await makeSite({
    here: true,
    url: server.url("shop"),
    storages: () => storages,
    more: [`retention: {${names.map((name) => `${name}: {last: 1}`).join(", ")}}`],
  });
  return site;
}

const CLEANUP = ["cleanup", "--confirm", "test"];
const idsOf = (kept: { id: string; storage: string }[], storage: string): string[] =>
  kept.filter((one) => one.storage === storage).map(({ id }) => id);

async function expectRestorable(from: TestSite, id: string): Promise<void> {
  await from.json(["restore", id, "--into-db", "copy", "--reason", "test"]);
  expect(await rowsOf("copy")).toEqual(rows);
  await query(server.url(), "drop database copy");
}

test("a key that may only add keeps cleanup from nothing but its own storage, until cleanup has a key of its own", async () => {
  const adding = b2.createKey(["listBuckets", "listFiles", "readFiles", "writeFiles"]);
  const line = (more: string): string =>
    `- {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: old, prefix: keys, keyId: "${adding.keyId}", applicationKey: "${adding.applicationKey}"${more}}`;
  const made = await siteWith([line(""), s3("keys")], ["b2", "r2"]);
  const first = await made.json(BACKUP);
  const second = await made.json(BACKUP);
  const refused = await made.json(CLEANUP, [3]);
  expect(refused.failed.map(({ storage }: { storage: string }) => storage)).toEqual(["b2"]);
  expect(refused.removed.backups).toBe(1);
  // the copy that could not be removed is still one, and the other storage's is gone
  expect((await made.json(["show", first.id])).copies).toMatchObject([
    { storage: "b2", status: "stored" },
    { storage: "r2", status: "removed" },
  ]);
  await expectRestorable(made, first.id);

  await made.configure(
    [
      "site: test",
      `database: {url: "${server.url("shop")}"}`,
      "storages:",
      `  ${line(`, cleanup: {keyId: "${b2.keyId}", applicationKey: "${b2.applicationKey}"}`)}`,
      `  ${s3("keys")}`,
      "retention: {b2: {last: 1}, r2: {last: 1}}",
    ].join("\n"),
  );
  const done = await made.json(CLEANUP);
  expect(done.removed.backups).toBe(1);
  expect(idsOf(done.keep, "b2")).toEqual([second.id]);
  expect((await made.json(["verify", "--all"])).problems).toEqual([]);
  await expectRestorable(made, second.id);
});

test("what the storage itself locks stays whole and is no failure; once it is let go, the next cleanup takes it", async () => {
  const made = await siteWith(
    [s3("locked"), local(join("/tmp", `jbackup-locked-${process.pid}`))],
    ["r2", "disk"],
  );
  const first = await made.json(BACKUP);
  await made.json(BACKUP);
  proxy.answerNext(1000, {
    status: 403,
    when: /^DELETE .*locked/,
    headers: { "content-type": "application/xml" },
    body: "<Error><Code>AccessDenied</Code><Message>Access Denied because object protected by object lock.</Message></Error>",
  });
  const held = await made.json(CLEANUP);
  expect(held.failed).toEqual([]);
  expect(held.locked).toMatchObject([{ storage: "r2", path: expect.stringMatching(/manifest\.json$/) }]);
  expect((await made.json(["show", first.id])).copies).toMatchObject([
    { storage: "r2", status: "stored" },
    { storage: "disk", status: "removed" },
  ]);
  expect((await made.json(["verify", "--all"])).problems).toEqual([]);
  await expectRestorable(made, first.id);
  proxy.forgetAnswers();
  expect((await made.json(CLEANUP)).removed.backups).toBe(1);
  expect((await made.json(["show", first.id])).copies).toMatchObject([
    { storage: "r2", status: "removed" },
    { storage: "disk", status: "removed" },
  ]);
});

test.runIf(canMount)("a disk that is full to the last byte is cleaned up", async () => {
  using disk = mountSmallDisk("3m");
  const made = await siteWith([local(disk.path), s3("full")], ["disk", "r2"]);
  await made.json(BACKUP);
  const second = await made.json(BACKUP);
  const fill = (): void => {
    for (let size = 1 << 20; size >= 1; size >>= 1)
      for (let nth = 0; ; nth++)
        try {
          writeFileSync(join(disk.path, `fill-${size}-${nth}`), Buffer.alloc(size));
        } catch {
          break;
        }
  };
  fill();
  const failed = await made.json(BACKUP, [1, 3]);
  expect(JSON.stringify(failed)).toContain("disk");
  const done = await made.json(CLEANUP, [0, 3]);
  expect(done.failed).toEqual([]);
  expect(done.removed.backups).toBeGreaterThanOrEqual(1);
  await expectRestorable(made, "latest");
  expect(second.id).toBeTruthy();
});
