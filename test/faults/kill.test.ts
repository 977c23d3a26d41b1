import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { killAt } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import * as steps from "../support/steps.js";
import { BACKUP_STEPS, IN_PLACE_STEPS, MERGE_STEPS, SWAP_STEPS } from "../support/steps.js";

const SHOP = `
create table customers (id serial primary key, name text not null);
create table orders (id bigint generated always as identity primary key, customer int references customers, note text);
insert into customers (name) select 'customer ' || g from generate_series(1, 200) g;
insert into orders (customer, note) select 1 + g % 200, md5(g::text) from generate_series(1, 20000) g;`;

let server: TestPostgres;
let site: TestSite;
let first: { id: string; label: string };
let original: Record<string, string>;

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop", "create role app login");
  await query(server.url("shop"), SHOP);
  original = await contentOf(server.url("shop"));
  site = await makeSite({
    here: true,
    url: server.url("shop"),
    storages: (folder) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(folder, name)}}`),
  });
  first = await site.json(["backup", "full", "--logical"]);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

/** No manifest without every object it names, in any storage. */
function expectWholeBackups(): void {
  for (const storage of ["one", "two"]) {
    const files = filesBelow(join(site.folder, storage));
    for (const manifest of files.filter((file) => file.endsWith("manifest.json"))) {
      const { body } = JSON.parse(readFileSync(manifest, "utf8"));
      for (const { name } of body.objects) expect(files).toContain(join(manifest, "..", name));
    }
  }
}

const databases = async (): Promise<string[]> =>
  (await query(server.url(), "select datname from pg_database where not datistemplate order by 1")).map(
    ({ datname }) => datname ?? "",
  );

const dropOthers = async (): Promise<void> => {
  for (const name of await databases())
    if (!["postgres", "shop"].includes(name))
      await query(server.url(), `drop database "${name}" with (force)`);
};

async function expectRestorable(reference: string): Promise<void> {
  await site.json(["restore", reference, "--into-db", "proof", "--reason", "proof"]);
  const { database: _, ...rows } = await contentOf(server.url("proof"));
  const { database: __, ...expected } = original;
  expect(rows).toEqual(expected);
  await query(server.url(), "drop database proof");
}

test("every step of the engine is in these lists", () => {
  const engine = fileURLToPath(new URL("../../src/engine", import.meta.url));
  const named = filesBelow(engine).flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/\.step\("([^"]+)"\)/g)].map((match) => match[1]),
  );
  const listed = new Set(Object.values(steps).flat());
  expect([...new Set(named)].sort()).toEqual([...listed].sort());
});

describe("a backup killed at", () => {
  test.each(BACKUP_STEPS)("%s leaves all earlier ones, and nothing half-visible", async (step) => {
    await killAt(site, step, ["backup", "full", "--logical"]);
    expectWholeBackups();
    await expectRestorable(first.id);
    const next = await site.json(["backup", "full", "--logical"]);
    expect(next.status).toBe("completed");
    const backups: { id: string; status: string }[] = await site.json(["list"]);
    expect(backups.filter(({ status }) => status === "in_progress")).toEqual([]);
    const [, killed] = backups;
    // the manifest makes the backup: from then on a kill cannot take it back
    const isWhole = BACKUP_STEPS.indexOf(step) >= BACKUP_STEPS.indexOf("manifest-stored");
    expect(killed?.status).toBe(isWhole ? "completed" : "interrupted");
    if (isWhole) await expectRestorable(killed?.id ?? "");
    expect(
      (await site.json(["alerts", "--status", "all"])).map(({ type }: { type: string }) => type),
    ).toContain("BACKUP_FAILURE");
    const temporary = filesBelow(site.folder).filter((file) => file.includes("~jbackup"));
    expect(temporary).toEqual([]);
  });
});

const RESTORES: [name: string, steps: string[], args: string[]][] = [
  ["a restore that swaps", SWAP_STEPS, ["--confirm", "shop"]],
  ["a merge", MERGE_STEPS, ["--mode", "merge"]],
  ["a restore in place", IN_PLACE_STEPS, ["--in-place", "--confirm", "shop"]],
];

describe.each(RESTORES)("%s killed at", (_, steps, args) => {
  test.each(steps)("%s leaves the database old or new, and can be run again", async (step) => {
    await query(server.url("shop"), "delete from orders where id % 3 = 0");
    const damaged = await contentOf(server.url("shop"));
    const restore = ["restore", first.id, "--reason", "kill test", ...args];
    await killAt(site, step, restore);

    expect(filesBelow(join(site.home, "tmp"))).toEqual([]); // nothing decrypted is left on disk
    const now = await contentOf(server.url("shop"));
    expect([JSON.stringify(original), JSON.stringify(damaged)]).toContain(JSON.stringify(now));

    const again = await site.json(restore);
    expect(again.status).toBe("completed");
    expect(await contentOf(server.url("shop"))).toEqual(original);
    expect((await databases()).filter((name) => /_jbackup_/.test(name))).toEqual([]);
    const restores: { status: string; error: string | null }[] = await site.json(["restores"]);
    expect(restores.filter(({ status }) => status === "in_progress")).toEqual([]);
    expect(restores[1]).toMatchObject({ status: "failed", error: "interrupted by a crash or a kill" });
    await dropOthers();
  });
});

describe("a restore into a new database killed at", () => {
  test.each(SWAP_STEPS)("%s shows no half of it to anybody, and can be run again", async (step) => {
    const restore = ["restore", first.id, "--into-db", "fresh", "--reason", "kill test"];
    await killAt(site, step, restore);
    const isThere = (await databases()).includes("fresh");
    expect(isThere).toBe(step === "swapped"); // the name is given last
    const { database: _, ...expected } = original;
    const rowsOf = async (): Promise<Record<string, string>> => {
      const { database: __, ...rows } = await contentOf(server.url("fresh"));
      return rows;
    };
    for (const half of (await databases()).filter((name) => /_jbackup_/.test(name)))
      await expect(query(server.url(half, "app"), "select 1")).rejects.toThrow(
        "permission denied for database",
      );
    if (isThere) {
      expect(await rowsOf()).toEqual(expected);
      expect((await site.json(restore, [14])).error.message).toBe('the database "fresh" exists already');
      await dropOthers();
    }
    expect((await site.json(restore)).status).toBe("completed");
    expect(await rowsOf()).toEqual(expected);
    expect((await databases()).filter((name) => /_jbackup_/.test(name))).toEqual([]);
    expect(await query(server.url("fresh", "app"), "select 1 as one")).toEqual([{ one: 1 }]);
    await dropOthers();
  });
});

test("a key rotation that is killed leaves backups that open", async () => {
  await killAt(site, "manifest-rewrapped", ["keys", "rotate"]);
  await expectRestorable(first.id);
  const rotated = await site.json(["keys", "rotate"]);
  expect(rotated.failed).toEqual([]);
  await expectRestorable(first.id);
});
