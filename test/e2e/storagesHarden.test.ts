import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { filesBelow } from "../support/files.js";
import { startLockedBucket } from "../support/lockedBucket.js";
import { s3Objects } from "../support/s3Objects.js";
import { makeSite, type TestSite } from "../support/site.js";
import { type Swift, startSwift } from "../support/swift.js";

let swift: Swift;
let b2: B2Server;
const sites: TestSite[] = [];

beforeAll(async () => {
  [swift, b2] = await Promise.all([startSwift(), startB2Server()]);
  await swift.createBucket("shop");
  b2.createBucket("shop");
});
afterAll(async () => {
  for (const site of sites) await site.remove();
  await Promise.all([swift?.stop(), b2?.stop()]);
});

const LOCAL = (folder: string): string => `- {name: local, kind: local, path: ${folder}/local}`;
const s3Line = (endpoint = swift.endpoint): string =>
  `- {name: r2, kind: s3, endpoint: "${endpoint}", bucket: shop, prefix: prod, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: ${swift.secretAccessKey}}`;
const b2Line = (key: { keyId: string; applicationKey: string }, more = ""): string =>
  `- {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: shop, prefix: prod, keyId: "${key.keyId}", applicationKey: "${key.applicationKey}"${more}}`;

async function siteWith(storages: (folder: string) => string[], more: string[] = []): Promise<TestSite> {
  const site = await makeSite({ url: "postgresql://nobody@127.0.0.1:1/none", storages, more, here: true });
  sites.push(site);
  return site;
}

const check = ["storages", "harden", "--check"];
const ADDING = ["listBuckets", "listFiles", "readFiles", "writeFiles"];

test("full rights are found out in every storage, said, and nothing is left behind", async () => {
  const site = await siteWith((folder) => [LOCAL(folder), s3Line(), b2Line(b2)]);
  const [local, r2, backblaze] = await site.json(check, [4]);
  expect(local).toMatchObject({ provider: "local", mayDestroy: true, problems: [], left: [], error: null });
  expect(r2).toMatchObject({
    storage: "r2",
    provider: "s3",
    rights: { write: "yes", read: "yes", list: "yes", overwrite: "yes", delete: "yes", listOutside: "yes" },
    mayDestroy: true,
    problems: [
      "they may delete backups for good: whoever steals them can destroy every backup there",
      "they see what is outside of the prefix, which is nobody's need",
    ],
    left: [],
  });
  expect(r2.advice.join("\n")).toContain('"arn:aws:s3:::shop/prod/*"');
  expect(backblaze).toMatchObject({
    provider: "b2",
    rights: { write: "yes", delete: "yes", deleteVersion: "yes", versioning: "yes" },
    mayDestroy: true,
    left: [],
  });
  expect(backblaze.advice[0]).toBe(
    'b2 key create --bucket shop --name-prefix "prod/" jbackup-backup listBuckets,listFiles,readFiles,writeFiles',
  );
  expect(filesBelow(join(site.folder, "local"))).toEqual([]);
  const bucket = s3Objects(swift, "shop");
  expect(await bucket.names("")).toEqual([]);
  bucket.close();
  const { stdout } = await site.run(...check);
  expect(stdout).toContain("r2 (s3): not safe from its own credentials\n");
});

test("a key that only adds passes, and what the probe left goes by the cleanup credentials", async () => {
  const adding = b2.createKey(ADDING, "prod/");
  const deleting = b2.createKey([...ADDING, "deleteFiles"], "prod/");
  const cleanup = `, cleanup: {keyId: "${deleting.keyId}", applicationKey: "${deleting.applicationKey}"}`;
  const site = await siteWith((folder) => [LOCAL(folder), b2Line(adding, cleanup)]);
  const [, backblaze] = await site.json(check);
  expect(backblaze).toMatchObject({
    rights: { write: "yes", read: "yes", list: "yes", delete: "no", deleteVersion: "no", listOutside: "no" },
    mayDestroy: false,
    problems: [],
    advice: [],
    left: [],
  });
  expect(b2.calls.filter((call) => call === "b2_delete_file_version").length).toBeGreaterThan(0);
});

test("without such credentials the probe is left, among what cleanup sweeps, and said", async () => {
  const site = await siteWith((folder) => [LOCAL(folder), b2Line(b2.createKey(ADDING, "prod/"))]);
  const [, backblaze] = await site.json(check);
  expect(backblaze.mayDestroy).toBe(false);
  expect(backblaze.left).toEqual([expect.stringMatching(/^backups\/check-[0-9a-f]{16}\/probe$/)]);
  expect(b2.versionsOf("shop", `prod/${backblaze.left[0]}`)).toHaveLength(2);
});

test("cleanup credentials do not help while the others may delete as well", async () => {
  const cleanup = `, cleanup: {keyId: "${b2.keyId}", applicationKey: "${b2.applicationKey}"}`;
  const site = await siteWith((folder) => [LOCAL(folder), b2Line(b2, cleanup)]);
  const [, backblaze] = await site.json(check, [4]);
  expect(backblaze.problems[0]).toBe(
    "they may delete backups for good, although cleanup has credentials of its own",
  );
});

test("a bucket that refuses to delete and to overwrite is safe, whatever the credentials", async () => {
  const locked = await startLockedBucket(swift.endpoint);
  try {
    const site = await siteWith((folder) => [LOCAL(folder), s3Line(locked.endpoint)]);
    const [, r2] = await site.json(check, [4]);
    expect(r2).toMatchObject({ rights: { write: "yes", overwrite: "no", delete: "no" }, mayDestroy: false });
    expect(r2.problems).toEqual(["they see what is outside of the prefix, which is nobody's need"]);
    expect(r2.left).toHaveLength(1);
  } finally {
    await locked.stop();
  }
});

test("credentials that nobody knows are no finding but a failure, and the others are told all the same", async () => {
  const site = await siteWith((folder) => [
    LOCAL(folder),
    b2Line({ keyId: b2.keyId, applicationKey: "wrong-key-0123456789" }),
    s3Line(),
  ]);
  const [, backblaze, r2] = await site.json(check, [1]);
  expect(backblaze.error).toMatch(/^storage b2: put backups\/check-\S+ failed: /);
  expect(r2.mayDestroy).toBe(true);
});

test("with local storages only, every copy can be destroyed from here", async () => {
  const site = await siteWith((folder) => [LOCAL(folder)]);
  const [local] = await site.json(check, [4]);
  expect(local.problems).toEqual(["every copy is on this host: whoever has it can destroy all of them"]);
});

test("without --check nothing is asked, and each provider gets its own commands", async () => {
  const site = await siteWith(
    () => [
      '- {name: r2, kind: s3, endpoint: "https://acc.r2.cloudflarestorage.com", bucket: shop, prefix: prod, accessKeyId: a, secretAccessKey: b}',
      '- {name: aws, kind: s3, endpoint: "https://s3.eu-central-1.amazonaws.com", bucket: store, accessKeyId: a, secretAccessKey: b}',
    ],
    ["retention: {r2: {within: 14d}}"],
  );
  const [r2, aws] = await site.json(["storages", "harden"]);
  expect(r2).toMatchObject({ provider: "r2", rights: null, mayDestroy: null, problems: [] });
  expect(r2.advice).toContain(
    'npx wrangler r2 bucket lock add shop --name jbackup --prefix "prod/backups/" --retention-days 14',
  );
  expect(aws.advice[0]).toBe(
    "aws s3api put-bucket-versioning --bucket store --versioning-configuration Status=Enabled",
  );
});
