import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { resume, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let content: Record<string, string>;
const BACKUP = ["backup", "full", "--logical"];

interface Keys {
  recipient: string;
  identity: string;
}

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) as note from generate_series(1, 3000) g",
  );
  content = await contentOf(server.url("shop"));
});

afterAll(async () => {
  await server?.stop();
});

let site: TestSite;
let daily: Keys;
let escrow: Keys;

const newKeys = async (name: string): Promise<Keys> => {
  const folder = join(site.folder, name);
  await site.json(["keys", "new", "--out", folder]);
  return {
    recipient: readFileSync(join(folder, "recipient"), "utf8").trim(),
    identity: join(folder, "identity"),
  };
};

/** Seals for the given recipients, and opens with the given identities only. */
const useKeys = (recipients: string[], identities: string[]): Promise<void> =>
  site.configure(
    [
      "site: test",
      `database: {url: "${server.url("shop")}"}`,
      "keys:",
      `  recipients: [${recipients.join(", ")}]`,
      `  signing: {file: ${join(site.folder, "daily/signing")}}`,
      ...(identities.length === 0
        ? []
        : [`  identity: [${identities.map((file) => `{file: ${file}}`).join(", ")}]`]),
      "storages:",
      ...["one", "two"].map((name) => `  - {name: ${name}, kind: local, path: ${join(site.folder, name)}}`),
      "",
    ].join("\n"),
  );

beforeEach(async () => {
  site = await makeSite({ here: true, url: server.url("shop") });
  daily = await newKeys("daily");
  escrow = await newKeys("escrow");
  await useKeys([daily.recipient, escrow.recipient], [daily.identity]);
  return () => site.remove();
});

const databases = async (): Promise<string[]> =>
  (await query(server.url(), "select datname from pg_database order by 1")).map(
    ({ datname }) => datname ?? "",
  );

async function expectRestorable(reference: string): Promise<void> {
  await site.json(["restore", reference, "--into-db", "proof", "--reason", "proof"]);
  const { database: _, ...rows } = await contentOf(server.url("proof"));
  await query(server.url(), "drop database proof");
  const { database: __, ...expected } = content;
  expect(rows).toEqual(expected);
}

async function expectNoKey(reference: string): Promise<void> {
  const [before, recorded] = [await databases(), await site.json(["restores"])];
  const { error } = await site.json(["restore", reference, "--reason", "test", "--confirm", "shop"], [12]);
  expect(error.code).toBe("no_key");
  expect(await databases()).toEqual(before);
  expect(await contentOf(server.url("shop"))).toEqual(content);
  expect(await site.json(["restores"])).toEqual(recorded);
}

const manifestsIn = (storage: string): string[] =>
  filesBelow(join(site.folder, storage)).filter((file) => file.endsWith("manifest.json"));

describe("keys", () => {
  test("each recipient opens a backup alone; any other key is refused before the target is touched", async () => {
    const { id } = await site.json(BACKUP);
    const stranger = await newKeys("stranger");
    await useKeys([daily.recipient], [stranger.identity]);
    await expectNoKey(id);
    await useKeys([daily.recipient], [escrow.identity]);
    await expectRestorable(id);
  });

  test("a host without any identity backs up and lists, but opens nothing", async () => {
    await useKeys([daily.recipient], []);
    const { id } = await site.json(BACKUP);
    expect(await site.json(["list"])).toHaveLength(1);
    await expectNoKey(id);
    await useKeys([daily.recipient], [daily.identity]);
    await expectRestorable(id);
  });

  test("a physical backup never builds on one that other keys open, unless that has been sealed anew", async () => {
    const full = ["backup", "full"];
    const first = await site.json(full);
    expect((await site.json(full)).parentId).toBe(first.id);
    const next = await newKeys("next");
    await useKeys([next.recipient], [next.identity]);
    const anew = await site.json(full);
    expect(anew.parentId).toBeNull();
    const later = await site.json(full);
    expect(later.parentId).toBe(anew.id);
    await site.json(["keys", "test", later.id]);
    rmSync(daily.identity);
    rmSync(escrow.identity);
    await expectRestorable(later.id);

    const last = await newKeys("last");
    await useKeys([last.recipient], [next.identity]);
    expect(
      (await site.json(["keys", "rotate"], [0, 3])).failed.map(
        ({ backupId }: { backupId: string }) => backupId,
      ),
    ).not.toContain(later.id);
    const rotated = await site.json(full);
    expect(rotated.parentId).toBe(later.id); // all of it opens with the new key
    await useKeys([last.recipient], [last.identity]);
    await expectRestorable(rotated.id);
  });

  test("another passphrase is another recipient: nothing new builds on what only the old one opens", async () => {
    const tenants =
      "tenants: {table: tenants, idColumn: id, column: tenant_id, isolation: none, shared: [orders]}";
    await query(
      server.url("shop"),
      "create table if not exists tenants (id text primary key)",
      "create table if not exists notes (id int primary key, tenant_id text references tenants)",
      "insert into tenants values ('t') on conflict do nothing",
      "insert into notes values (1, 't') on conflict do nothing",
    );
    const usePassphrase = (name: string): Promise<void> => {
      writeFileSync(join(site.folder, name), `a long passphrase called ${name}\n`, { mode: 0o600 });
      const passphrase = `{passphrase: {file: ${join(site.folder, name)}}}`;
      return site.configure(
        [
          "site: test",
          `database: {url: "${server.url("shop")}"}`,
          `keys: {recipients: [${passphrase}], identity: [${passphrase}], signing: {file: ${join(site.folder, "daily/signing")}}}`,
          `storages: [{name: one, kind: local, path: ${join(site.folder, "one")}}]`,
          tenants,
          "",
        ].join("\n"),
      );
    };
    const full = ["backup", "full"];
    const tenant = ["backup", "tenant", "--tenant", "t"];
    await usePassphrase("old");
    const first = await site.json(full);
    expect((await site.json(full)).parentId).toBe(first.id);
    await site.json(tenant);
    await usePassphrase("new");
    const anew = await site.json(full);
    expect(anew.parentId).toBeNull();
    const own = await site.json(tenant);
    expect(own.storedBytes).toBeGreaterThan(0);
    content = await contentOf(server.url("shop"));
    await expectRestorable(anew.id);
    await site.json(["verify", own.id, "--level", "sealed"]);
  });

  test("an identity file that is lost stops no backup; the other key still opens everything", async () => {
    const { id } = await site.json(BACKUP);
    rmSync(daily.identity);
    const later = await site.json(BACKUP);
    const { error } = await site.json(["restore", id, "--reason", "test", "--confirm", "shop"], [12]);
    expect(error).toMatchObject({
      code: "no_key",
      message: `keys.identity: there is no file ${daily.identity}`,
      hint: expect.stringContaining("recovery kit"),
    });
    for (const command of ["keys test", "keys list", "verify --level sealed", "config validate"])
      expect([command, (await site.run(...command.split(" "))).code]).toEqual([command, 12]);
    expect(await contentOf(server.url("shop"))).toEqual(content);
    await useKeys([daily.recipient, escrow.recipient], [daily.identity, escrow.identity]);
    const both = await site.run("keys", "test", id);
    expect([both.code, both.stderr.match(/; going on with the other keys/g)?.length]).toEqual([0, 1]);
    await useKeys([daily.recipient, escrow.recipient], [escrow.identity]);
    await expectRestorable(id);
    await expectRestorable(later.id);
  });
});

describe("a rotation", () => {
  /** Two backups in two storages: four manifests are rewritten, one after the other. */
  test.each([1, 2, 3, 4])(
    "killed after manifest %i leaves every backup open to its old or its new key",
    async (nth) => {
      const ids = [(await site.json(BACKUP)).id, (await site.json(BACKUP)).id];
      const fresh = await newKeys("fresh");
      // the daily key is replaced by a fresh one; until the rotation is through, this host holds both
      await useKeys([fresh.recipient, escrow.recipient], [daily.identity, fresh.identity]);
      const rewrapped = (): string[] =>
        [...manifestsIn("one"), ...manifestsIn("two")].filter((file) =>
          readFileSync(file, "utf8").includes(fresh.recipient),
        );
      const { pid, ended } = await runUntil(site, "manifest-rewrapped", ["keys", "rotate"]);
      while (rewrapped().length < nth) {
        process.kill(pid, "SIGCONT");
        await delay(20);
      }
      process.kill(pid, "SIGKILL");
      expect((await ended).signal).toBe("SIGKILL");
      expect(rewrapped()).toHaveLength(nth);

      for (const id of ids) await expectRestorable(id);
      await useKeys([escrow.recipient], [escrow.identity]);
      for (const id of ids) await expectRestorable(id);

      await useKeys([fresh.recipient, escrow.recipient], [daily.identity, fresh.identity]);
      expect(await site.json(["keys", "rotate"])).toEqual({ rewrapped: 2, failed: [] });
      expect(rewrapped()).toHaveLength(4);
      await useKeys([fresh.recipient], [fresh.identity]);
      for (const id of ids) await expectRestorable(id);
      await useKeys([daily.recipient], [daily.identity]);
      await expectNoKey(ids[0]);
    },
  );

  test("waits for no backup and lets none in: they exclude each other", async () => {
    await site.json(BACKUP);
    const stopped = await runUntil(site, "manifest-rewrapped", ["keys", "rotate"]);
    expect((await site.run(...BACKUP)).code).toBe(11);
    expect((await resume(stopped)).code).toBe(0);
    expect((await site.run(...BACKUP)).code).toBe(0);
  });
});

/** Whatever takes the latest backup takes the newest that is believed, and says which one it did not. */
async function expectPassedOver(believed: string, spoilt: string): Promise<void> {
  for (const command of [
    ["restore", "latest", "--dry-run"],
    ["keys", "test"],
    ["verify"],
    ["show", "latest"],
  ]) {
    const ran = await site.run(...command, "--json");
    expect([command, ran.code, ran.stderr]).toEqual([
      command,
      0,
      expect.stringContaining(`backup ${spoilt} is passed over: `),
    ]);
    const { backupId = believed, id = backupId } = JSON.parse(ran.stdout);
    expect([command, id]).toEqual([command, believed]);
  }
  await expectRestorable("latest");
}

describe("a manifest that was tampered with in one storage", () => {
  const edits: [what: string, edit: (text: string, older: string) => string][] = [
    ["edited", (text) => text.replace('"label": "full-', '"label": "fake-')],
    ["replaced by that of an older backup", (_text, older) => older],
    ["cut short", (text) => text.slice(0, 200)],
    ["unsigned", (text) => text.replace(/"signature": \{[^}]*\}/, '"signature": null')],
  ];
  test.each(edits)(
    "%s is not believed: the other storage is used, and a security alert tells",
    async (_what, edit) => {
      await site.json(BACKUP);
      const second = await site.json(BACKUP);
      const [older = "", newer = ""] = manifestsIn("one").sort((a) => (a.includes(second.id) ? 1 : -1));
      const text = readFileSync(newer, "utf8");
      const spoilt = edit(text, readFileSync(older, "utf8"));
      expect(spoilt).not.toBe(text);
      writeFileSync(newer, spoilt);
      await expectRestorable(second.id);
      expect(await site.json(["alerts"])).toMatchObject([
        { type: "SECURITY", severity: "critical", storage: "one", backupId: second.id },
      ]);
      writeFileSync(newer.replace("/one/", "/two/"), spoilt);
      await expectPassedOver(older.split("/").at(-2) ?? "", second.id);
      const before = await databases();
      const { error } = await site.json(["restore", second.id, "--reason", "test", "--confirm", "shop"], [4]);
      expect(error.code).toMatch(/^manifest_/);
      expect(await databases()).toEqual(before);
      expect(await contentOf(server.url("shop"))).toEqual(content);
    },
  );
});

describe("the newest backup, when its storage is away", () => {
  /** The first is in both storages, the second in `two` alone. */
  async function makeTwo() {
    const file = join(site.folder, "jbackup.yaml");
    await site.configure(`${readFileSync(file, "utf8")}minCopies: 1\n`);
    const older = await site.json(BACKUP);
    const [one, away] = [join(site.folder, "one"), join(site.folder, "one.away")];
    renameSync(one, away);
    const newer = await site.json(BACKUP, [3]);
    renameSync(away, one);
    return { older, newer };
  }

  test("is not quietly replaced by an older one: it is named, with its storage and the next older", async () => {
    const { older, newer } = await makeTwo();
    renameSync(join(site.folder, "two"), join(site.folder, "two.away"));
    for (const command of [
      ["restore", "--into-db", "proof", "--reason", "test"],
      ["verify", "latest", "--level", "restore"],
    ]) {
      const { error } = await site.json(command, [1]);
      expect([command, error.code]).toEqual([command, "storage_unavailable"]);
      expect(error.message).toContain(
        `the newest backup is out of reach: backup ${newer.label} cannot be read`,
      );
      expect(error.message).toContain("storage two");
      expect(error.hint).toContain(older.label);
      expect(error.details).toMatchObject({ backupId: newer.id, nextOlder: older.label });
    }
    expect(await databases()).not.toContain("proof");
    // a storage that is not there has lost nothing
    const types = (await site.json(["alerts"])).map(({ type }: { type: string }) => type);
    expect(types).not.toContain("INTEGRITY_FAILURE");
    await expectRestorable(older.id); // both may have been made in one second, under one label
    const text = await site.run("restore", older.id, "--into-db", "proof", "--reason", "test");
    expect(text.stdout).toContain(`proof is restored from ${older.label}: `);
    await query(server.url(), "drop database proof");
  });

  test("whose manifest is gone everywhere is not there any more, and that is not passed over either", async () => {
    const { older, newer } = await makeTwo();
    for (const file of manifestsIn("two").filter((one) => one.includes(newer.id))) rmSync(file);
    const { error } = await site.json(["restore", "--into-db", "proof", "--reason", "test"], [10]);
    expect(error).toMatchObject({
      code: "not_found",
      message: `the newest backup is out of reach: no storage holds the manifest of backup ${newer.label}`,
      details: { backupId: newer.id, nextOlder: older.label },
    });
  });

  test("that cannot be believed is passed over, which the answer, the record and a test restore say", async () => {
    const { older, newer } = await makeTwo();
    for (const file of manifestsIn("two").filter((one) => one.includes(newer.id))) writeFileSync(file, "{}");
    const passedOver = expect.stringContaining(`backup ${newer.id} is passed over: `);
    const done = await site.json(["restore", "--into-db", "proof", "--reason", "test"]);
    expect(done).toMatchObject({ backupId: older.id, metadata: { label: older.label } });
    expect(done.warnings).toEqual([passedOver]);
    expect((await site.json(["restores"]))[0].warnings).toEqual([passedOver]);
    await query(server.url(), "drop database proof");
    const tested = await site.json(["verify", "latest", "--level", "restore"], [4]);
    expect(tested.checks).toContainEqual(
      expect.objectContaining({ name: "newest", status: "failed", seen: passedOver }),
    );
  });
});
