import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { kitAnswer } from "../../src/cli/commands/keysKit.js";
import { readEnvironment } from "../../src/config/environment.js";
import { parseConfig } from "../../src/config/parse.js";
import { type KitRecord, kitDrift, readKitRecord } from "../../src/domain/kitRecord.js";
import { keys as keyCheck } from "../../src/engine/doctor/keyChecks.js";
import { type KitFacts, kitConfig, kitText, withoutPassword } from "../../src/engine/recoveryKit.js";
import { sealingKeys } from "../../src/engine/siteKeys.js";
import { writeKit } from "../../src/engine/writeKit.js";
import { openTestSite } from "../support/openedSite.js";
import { makeSite, type TestSite } from "../support/site.js";

const facts: KitFacts = {
  site: "shop",
  madeAt: new Date("2026-11-26T03:00:00Z"),
  databaseUrl: "postgresql://app:pa%40ss@db.example:5432/shop?sslmode=require",
  identities: ["jbk1secretexample", null],
  recipients: ["jbk1pubexample", "passphrase"],
  sealedFor: ["jbk1pubexample", "jbk1pubaway"],
  signers: ["jbk1verexample"],
  storages: [
    { name: "disk", kind: "local", path: "/mnt/my disk" },
    { name: "r2-eu", kind: "s3", endpoint: "https://r2.example", bucket: "b", prefix: "p", region: "auto" },
    { name: "b2", kind: "b2", endpoint: undefined, bucket: "b", prefix: "" },
  ],
  script: "// script",
};

test("the lines of the kit are a whole configuration for a host that only restores", async () => {
  const seen: string[] = [];
  const config = await parseConfig(kitConfig(facts), "/new/jbackup.yaml", {
    environment: readEnvironment({ HOME: "/new", R2_EU_ID: "i", R2_EU_SECRET: "s" }),
    onSecret: (text) => seen.push(text),
  });
  expect(config).toMatchObject({
    site: "shop",
    keys: { recipients: [], signing: null, signers: ["jbk1verexample"], generatedIn: null },
    storages: [
      { name: "disk", kind: "local", path: "/mnt/my disk" },
      { name: "r2-eu", kind: "s3", endpoint: "https://r2.example", bucket: "b", prefix: "p", region: "auto" },
      { name: "b2", kind: "b2", bucket: "b", prefix: "" },
    ],
  });
  expect(config.keys.identities).toHaveLength(1);
  const [, r2] = config.storages;
  expect(r2?.kind === "s3" && (await r2.secretAccessKey()).reveal()).toBe("s");
  expect((await config.database.url()).reveal()).toBe(
    "postgresql://app@db.example:5432/shop?sslmode=require",
  );
});

test.each([
  ["postgresql:///shop?host=/run", "postgresql:///shop?host=/run"],
  ["postgresql:///shop?password=x&host=/run", "postgresql:///shop?host=/run"],
  ["postgresql:///shop?host=/run&password=x", "postgresql:///shop?host=/run"],
  ["postgresql://a:b@h/d", "postgresql://a@h/d"],
])("of %s no password stands in it", (url, expected) => expect(withoutPassword(url)).toBe(expected));

test("the kit says what it does not open, where the signing key comes from, and what becomes of a physical backup", () => {
  const text = kitText(facts);
  for (const part of [
    "Backups are sealed for jbk1pubaway too; its private key is NOT in this kit.",
    "The signing key is not in this kit",
    "jbackup keys new --out NEW_KEYS",
    'jbackup restore --mode pitr --to latest --into-dir NEW_DIRECTORY --reason "recovery"',
    "jbackup dr run server-lost --set directory=NEW_DIRECTORY",
    "A physical backup becomes the data directory of a cluster",
    "A logical backup becomes a file database.pgdump",
  ])
    expect(text).toContain(part);
  expect(text).not.toContain("pa%40ss");
});

const kit: KitRecord = { holds: ["a"], recipients: ["a", "b"], signers: ["s"], storages: ["one"] };
const now = { recipients: ["b", "a"], signers: ["s"], storages: ["one"], newest: null };
const newest = (...sealedFor: string[]) => ({ label: "full-1", sealedFor });

test.each([
  ["the same", kit, now, []],
  ["a backup for its key and others", kit, { ...now, newest: newest("z", "a") }, []],
  ["a backup for others only", kit, { ...now, newest: newest("b") }, ["it does not open full-1"]],
  ["other recipients", kit, { ...now, recipients: ["a"] }, ["backups are sealed for other keys now"]],
  ["other signers", kit, { ...now, signers: ["s", "t"] }, ["other signatures are believed now"]],
  ["other storages", kit, { ...now, storages: ["two"] }, ["backups are in other storages now"]],
  ["nothing that was written down", readKitRecord({}), now, ["what is in it was not written down"]],
])("a kit against %s", (_, record, needed, drift) => expect(kitDrift(record, needed)).toEqual(drift));

test("the answer names the backups that the kit does not open", () => {
  const answer = { file: "/k", opens: ["a"], missing: ["b"], tried: 3, notOpened: ["full-1"] };
  expect(kitAnswer(answer)).toBe(
    [
      "/k opens what is sealed for a. Print it, lock it away, and delete the file.",
      "Backups are sealed for b too; its private key is not in this kit.",
      "It does NOT open 1 of the newest 3 backups: full-1. Keep the older kit as well, or, where the older key still is, run jbackup keys rotate.",
    ].join("\n"),
  );
  expect(kitAnswer({ ...answer, missing: [], notOpened: [] })).toMatch(/it opens all of them\.$/);
});

let made: TestSite;
beforeEach(async () => {
  made = await makeSite({ url: "postgresql://nobody@127.0.0.1:1/shop" });
});
afterEach(() => made.remove());

test("doctor takes a kit for out of date when keys or storages changed since it was written", async () => {
  const first = await openTestSite(made);
  await sealingKeys(first);
  const file = join(made.folder, "kit.txt");
  const written = await writeKit(first, file);
  expect(written).toMatchObject({ file, missing: [], tried: 0, notOpened: [] });
  const [entry] = await first.catalog.audit(1, "keys.kit");
  expect(readKitRecord(entry?.detail ?? {})).toMatchObject({
    holds: written.opens,
    recipients: written.opens,
  });
  const kitOf = async (site: typeof first) => (await keyCheck.look(site)).find(({ name }) => name === "kit");
  expect(await kitOf(first)).toMatchObject({ status: "ok" });
  await first.close();

  const text = readFileSync(made.configFile, "utf8").replace(
    /path: \S+}/,
    `path: ${join(made.folder, "moved")}}`,
  );
  writeFileSync(made.configFile, text);
  chmodSync(made.configFile, 0o600);
  const second = await openTestSite(made);
  expect(await kitOf(second)).toMatchObject({
    status: "warn",
    message: expect.stringMatching(/is out of date: backups are in other storages now$/),
  });
  await second.close();
});
