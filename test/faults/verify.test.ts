import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Backup } from "../../src/domain/backup.js";
import { type RestoreRequest, restore } from "../../src/engine/restore.js";
import type { Site } from "../../src/engine/site.js";
import { type VerifyRequest, verify } from "../../src/engine/verify.js";
import { contentOf, query } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { killAt } from "../support/kill.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { type S3Objects, s3Objects } from "../support/s3Objects.js";
import { makeSite, type TestSite } from "../support/site.js";
import { VERIFY_STEPS } from "../support/steps.js";
import { type Swift, startSwift } from "../support/swift.js";

/** Objects of one storage in the hands of somebody who owes the product nothing. */
interface Hands {
  read(key: string): Promise<Buffer>;
  write(key: string, bytes: Buffer): Promise<void>;
  remove(key: string): Promise<void>;
}

let server: TestPostgres;
let swift: Swift;
let b2: B2Server;
let bucket: S3Objects;
let site: TestSite;
/** The same, opened in this process: damages are many, and starting a program for each step takes longer than the step. */
let opened: Site;
let rows: Record<string, string>;
let older: { id: string; path: string };
let newest: { id: string; path: string };
let hands: Record<"disk" | "r2" | "b2", Hands>;

const rowsOf = async (database: string): Promise<Record<string, string>> => {
  const { database: _, ...relations } = await contentOf(server.url(database));
  return relations;
};

const BACKUP = ["backup", "full", "--logical"];

beforeAll(async () => {
  [server, swift, b2] = await Promise.all([startPostgres(), startSwift(), startB2Server()]);
  await swift.createBucket("verify");
  b2.createBucket("verify");
  bucket = s3Objects(swift, "verify");
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) || md5((g * 3)::text) as note from generate_series(1, 20000) g; alter table orders add primary key (id)",
  );
  rows = await rowsOf("shop");
  site = await makeSite({
    url: server.url("shop"),
    environment: { S3_SECRET: swift.secretAccessKey, B2_ID: b2.keyId, B2_KEY: b2.applicationKey },
    storages: (folder) => [
      `- {name: disk, kind: local, path: ${folder}/disk}`,
      `- {name: r2, kind: s3, endpoint: "${swift.endpoint}", bucket: verify, prefix: v, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: {env: S3_SECRET}}`,
      `- {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: verify, prefix: v, keyId: {env: B2_ID}, applicationKey: {env: B2_KEY}}`,
    ],
  });
  opened = await openTestSite(site, {
    S3_SECRET: swift.secretAccessKey,
    B2_ID: b2.keyId,
    B2_KEY: b2.applicationKey,
  });
  const made = async () => {
    const backup = await site.json(BACKUP);
    return { id: backup.id as string, path: backup.copies[0].path as string };
  };
  older = await made();
  newest = await made();
  const disk = (key: string): string => join(site.folder, "disk", key);
  hands = {
    disk: {
      read: async (key) => readFileSync(disk(key)),
      write: async (key, bytes) => writeFileSync(disk(key), bytes),
      remove: async (key) => rmSync(disk(key)),
    },
    r2: {
      read: (key) => bucket.read(`v/${key}`),
      write: (key, bytes) => bucket.write(`v/${key}`, bytes),
      remove: (key) => bucket.remove(`v/${key}`),
    },
    b2: {
      read: async (key) => readFileSync(b2.contentPath("verify", `v/${key}`)),
      write: async (key, bytes) => writeFileSync(b2.contentPath("verify", `v/${key}`), bytes),
      remove: async (key) => b2.lose("verify", `v/${key}`),
    },
  };
});

afterAll(async () => {
  bucket?.close();
  await opened?.close();
  await site?.remove();
  await Promise.all([server?.stop(), swift?.stop(), b2?.stop()]);
});

const flipped = (bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes);
  const middle = Math.floor(copy.length / 2);
  copy[middle] = (copy[middle] ?? 0) ^ 1;
  return copy;
};

interface Damage {
  what: string;
  /** Answers the keys that are wrong now. */
  does(hand: Hands): Promise<string[]>;
  says: RegExp;
  alert: "INTEGRITY_FAILURE" | "SECURITY";
}

const data = (): string => `${newest.path}/data/000001.jbk`;
const contents = (): string => `${newest.path}/contents.jbk`;
const manifest = (): string => `${newest.path}/manifest.json`;

const DAMAGES: Damage[] = [
  {
    what: "a flipped byte",
    does: async (hand) => {
      await hand.write(data(), flipped(await hand.read(data())));
      return [data()];
    },
    says: /its SHA-256 is not the one in the manifest/,
    alert: "INTEGRITY_FAILURE",
  },
  {
    what: "a cut object",
    does: async (hand) => {
      await hand.write(data(), (await hand.read(data())).subarray(0, 1000));
      return [data()];
    },
    says: /1000 bytes|ends|cut|damaged/,
    alert: "INTEGRITY_FAILURE",
  },
  {
    what: "a deleted object",
    does: async (hand) => {
      await hand.remove(contents());
      return [contents()];
    },
    says: /^is missing$/,
    alert: "INTEGRITY_FAILURE",
  },
  {
    what: "a deleted manifest",
    does: async (hand) => {
      await hand.remove(manifest());
      return [manifest()];
    },
    says: /^is missing$/,
    alert: "INTEGRITY_FAILURE",
  },
  {
    what: "two objects swapped",
    does: async (hand) => {
      const [one, two] = [await hand.read(data()), await hand.read(contents())];
      await hand.write(data(), two);
      await hand.write(contents(), one);
      return [contents(), data()];
    },
    says: /bytes|SHA-256/,
    alert: "INTEGRITY_FAILURE",
  },
  {
    what: "an object of an older backup in its place",
    does: async (hand) => {
      await hand.write(data(), await hand.read(`${older.path}/data/000001.jbk`));
      return [data()];
    },
    says: /bytes|SHA-256/,
    alert: "INTEGRITY_FAILURE",
  },
  {
    what: "the manifest of an older backup in its place",
    does: async (hand) => {
      await hand.write(manifest(), await hand.read(`${older.path}/manifest.json`));
      return [manifest()];
    },
    says: /cannot be believed/,
    alert: "SECURITY",
  },
  {
    what: "an edited manifest",
    does: async (hand) => {
      const text = (await hand.read(manifest())).toString("utf8");
      await hand.write(manifest(), Buffer.from(text.replace(/"tenantId":\s*null/, '"tenantId":"x"')));
      return [manifest()];
    },
    says: /cannot be believed/,
    alert: "SECURITY",
  },
];

const EVERYTHING: VerifyRequest = {
  reference: null,
  all: true,
  level: "stored",
  heal: false,
  share: null,
  storage: null,
};

const recorded = async (): Promise<Backup> =>
  (await opened.catalog.backups({ reference: newest.id }))[0] as Backup;

const openOf = async (id: string): Promise<string[]> =>
  (await opened.catalog.alerts({ status: ["active", "acknowledged"] }))
    .filter(({ backupId }) => backupId === id)
    .map(({ type, storage }) => `${type} ${storage}`);

const restoredRows = async (): Promise<Record<string, string>> => {
  const request: RestoreRequest = {
    reference: newest.id,
    mode: "full",
    to: null,
    intoDatabase: "copy",
    inPlace: false,
    onConflict: "skip",
    tables: [],
    reason: "test",
    jobs: 2,
  };
  await restore(opened, request, async () => undefined);
  const found = await rowsOf("copy");
  await query(server.url(), "drop database copy");
  return found;
};

const openAlerts = async (): Promise<string[]> =>
  (await site.json(["alerts"])).map(
    ({ type, storage }: { type: string; storage: string }) => `${type} ${storage}`,
  );

describe.each(["disk", "r2", "b2"] as const)("what goes wrong in storage %s", (storage) => {
  test.each(DAMAGES)("$what is named, restored around, and mended", async ({ does, says, alert }) => {
    const keys = [data(), contents(), manifest()];
    const good = await Promise.all(keys.map((key) => hands[storage].read(key)));
    // whatever happens, the next damage is done to a whole copy
    onTestFinished(async () => {
      for (const [at, key] of keys.entries()) await hands[storage].write(key, good[at] as Buffer);
    });
    const wrong = await does(hands[storage]);

    const report = await verify(opened, EVERYTHING);
    expect(report.problems.map(({ path }) => path).sort()).toEqual(wrong.sort());
    for (const found of report.problems)
      expect(found).toMatchObject({
        backupId: newest.id,
        storage,
        problem: expect.stringMatching(says),
      });

    // what is wrong is worked around meanwhile: restoring finds the other copies
    expect(await restoredRows()).toEqual(rows);
    const shown = await recorded();
    expect(shown.status).toBe("completed");
    expect(shown.copies.find((copy) => copy.storage === storage)?.status).toMatch(/^(damaged|missing)$/);
    expect(await openOf(newest.id)).toContain(`${alert} ${storage}`);

    const healed = await verify(opened, { ...EVERYTHING, heal: true, level: "content" });
    expect(healed.problems).toEqual([]);
    expect(healed.healed.map(({ path }) => path).sort()).toEqual(wrong.sort());
    expect(await Promise.all(keys.map((key) => hands[storage].read(key)))).toEqual(good);
    const proved = await recorded();
    expect(proved.status).toBe("verified");
    expect(proved.copies.map(({ status }) => status)).toEqual(["stored", "stored", "stored"]);
    expect(await openOf(newest.id)).toEqual([]);
  });
});

test("a storage whose credentials are gone is named, and its copies are not called damaged", async () => {
  const ran = await site.start(["verify", "--all", "--json"], { S3_SECRET: "wrong" });
  expect(ran.code, ran.stderr).toBe(4);
  const report = JSON.parse(ran.stdout);
  expect(report.problems).toEqual([
    { backupId: null, storage: "r2", path: "", problem: expect.stringContaining("cannot be read") },
  ]);
  const shown = await site.json(["show", newest.id]);
  expect(shown.copies.map((copy: { status: string }) => copy.status)).toEqual(["stored", "stored", "stored"]);
  await site.json(["verify", "--all"]);
  expect(await openAlerts()).toEqual([]);
});

test("all copies bad is critical, and nothing is overwritten", async () => {
  const kept = await hands.disk.read(contents());
  for (const hand of Object.values(hands)) await hand.write(contents(), flipped(kept));
  const report = await site.json(["verify", newest.id, "--heal"], [4]);
  expect(report.problems).toHaveLength(3);
  expect(report.healed).toEqual([]);
  const alerts = await site.json(["alerts"]);
  expect(
    alerts.some(
      (one: { severity: string; message: string }) =>
        one.severity === "critical" && one.message.startsWith("no storage has a good copy"),
    ),
  ).toBe(true);
  for (const hand of Object.values(hands)) await hand.write(contents(), kept);
  await site.json(["verify", newest.id]);
  expect(await openAlerts()).toEqual([]);
});

test.each(VERIFY_STEPS)("killed at %s, the next one mends what is left", async (step) => {
  const [one, two] = [await hands.disk.read(data()), await hands.disk.read(contents())];
  await hands.disk.write(data(), flipped(one));
  await hands.disk.write(contents(), flipped(two));
  await killAt(site, step, ["verify", "--all", "--heal"]);
  expect((await site.json(["verify", "--all", "--heal"])).problems).toEqual([]);
  expect(await hands.disk.read(data())).toEqual(one);
  expect(await hands.disk.read(contents())).toEqual(two);
});

test("shares of seven days read everything once", async () => {
  const whole = await site.json(["verify", "--all"]);
  const { shareOf } = await import("../../src/engine/verify/share.js");
  const keys = Array.from({ length: 500 }, (_, number) => `backups/full/2026/11/${number}/data/000001.jbk`);
  const days = Array.from({ length: 7 }, (_, day) => new Date(Date.UTC(2026, 10, 20 + day)));
  const turns = days.map((day) => keys.filter(shareOf({ days: 7 }, day)));
  expect(turns.flat().sort()).toEqual([...keys].sort());
  for (const turn of turns) expect(turn.length).toBeGreaterThan(30);
  const today = await site.json(["verify", "--share", "7/day"]);
  expect(today.checked).toBeLessThanOrEqual(whole.checked);
});

test("without a private key copies are checked all the same", async () => {
  const identity = join(site.home, "keys", "identity");
  const kept = readFileSync(identity);
  rmSync(identity);
  try {
    expect((await site.json(["verify", "--all"])).problems).toEqual([]);
    const sealed = await site.run("verify", "--level", "sealed", "--json");
    expect(sealed.code).toBe(12);
  } finally {
    writeFileSync(identity, kept, { mode: 0o600 });
  }
});

test.each([
  [["verify", "nothing"], 10, 'there is no backup "nothing"'],
  [["verify", "--share", "often"], 2, '--share cannot be "often"'],
  [["verify", "--level", "deep"], 2, '--level cannot be "deep"'],
  [["verify", "--all", "--storage", "tape"], 10, 'there is no storage "tape"'],
  [["verify", "latest", "--all"], 2, "a backup and --all exclude each other"],
])("%j is refused in one sentence", async (args, code, message) => {
  const ran = await site.run(...args, "--json");
  expect(ran.code).toBe(code);
  expect(JSON.parse(ran.stdout).error.message).toContain(message);
  expect(JSON.parse(ran.stdout).error.hint).toBeTruthy();
});
