import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { killAt, resume, runUntil, signalAt } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { serveRestored } from "../support/restored.js";
import { makeSite, type TestSite } from "../support/site.js";
import { PHYSICAL_STEPS } from "../support/steps.js";

let server: TestPostgres;
let folder: string;
let site: TestSite;
let streaming: string;
let first: { id: string };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-faults-"));
  await chmod(folder, 0o755); // the restored server runs as somebody else
  server = await startPostgres({
    initdb: ["-k"],
    settings: { full_page_writes: "on", wal_level: "replica" },
  });
  await query(
    server.url(),
    "create table rows as select g as id, md5(g::text) as text from generate_series(1, 5000) g",
  );
  const storages = (at: string) =>
    ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(at, name)}}`);
  site = await makeSite({ here: true, url: server.url(), storages });
  streaming = join(folder, "stream.yaml");
  const text = readFileSync(site.configFile, "utf8");
  await writeFile(streaming, text.replace('"}', '", dataDirectory: stream}'));
  first = await site.json(["backup", "full"]);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const addRows = (): Promise<unknown> =>
  query(server.url(), "insert into rows select g, md5(random()::text) from generate_series(1, 5000) g");

const countRows = async (url: string): Promise<string> =>
  (await query(url, "select count(*)::text as found from rows"))[0]?.found ?? "";

async function expectRestorable(reference: string, rows: string): Promise<void> {
  const directory = join(folder, "restored");
  await site.json(["restore", reference, "--mode", "full", "--into-dir", directory, "--reason", "test"]);
  const restored = await serveRestored(directory, server.binDirectory);
  try {
    expect(await countRows(restored.url())).toBe(rows);
  } finally {
    await restored.stop();
    await rm(directory, { recursive: true });
    await rm(`${directory}-private`, { recursive: true });
  }
}

/** No manifest without every object it names, here or in older backups, in any storage. */
function expectWholeBackups(): void {
  for (const storage of ["one", "two"]) {
    const root = join(site.folder, storage);
    const files = new Set(
      readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name)),
    );
    for (const manifest of [...files].filter((file) => file.endsWith("manifest.json"))) {
      const { body } = JSON.parse(readFileSync(manifest, "utf8"));
      for (const { name } of body.objects) expect(files).toContain(join(manifest, "..", name));
      for (const { folder: older, objects } of body.needs ?? [])
        for (const { name } of objects) expect(files).toContain(join(root, older, name));
    }
  }
}

/** Neither a slot nor a backup in progress is left on the server. */
async function expectServerLetGo(): Promise<void> {
  for (let tries = 0; ; tries++) {
    const [found] = await query(
      server.url(),
      "select (select count(*) from pg_replication_slots)::text as slots, (select count(*) from pg_stat_activity where application_name = 'jbackup')::text as sessions",
    );
    if (found?.slots === "0" && found.sessions === "0") return;
    if (tries === 50) expect(found).toEqual({ slots: "0", sessions: "0" });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

describe("a physical backup killed at", () => {
  test.each(PHYSICAL_STEPS)(
    "%s leaves all earlier ones, and the next one builds on what is whole",
    async (step) => {
      await addRows();
      await killAt(site, step, ["backup", "full"]);
      await expectServerLetGo();
      expectWholeBackups();
      const next = await site.json(["backup", "full"]);
      expect(next.status).toBe("completed");
      expect(next.metadata.incremental).toBe(true);
      const chain = await readdir(join(site.home, "chain", "test"));
      expect(chain.sort()).toEqual([`${next.id}.json`, `${next.id}.map`]);
      const states = (await site.json(["list"])).map(({ status }: { status: string }) => status);
      expect(states).not.toContain("in_progress");
    },
  );

  test("any of these steps, in the end all restore: the first and the newest", async () => {
    await expectRestorable("latest", await countRows(server.url()));
    await expectRestorable(first.id, "5000");
  });
});

describe("a physical backup ended by a signal", () => {
  test.each([
    ["backup-started", "files"],
    ["files-read", "files"],
    ["backup-stopped", "files"],
    ["backup-started", "stream"],
    ["files-read", "stream"],
  ])("at %s, reading by %s, is taken back at once", async (step, reader) => {
    const config = reader === "stream" ? ["--config", streaming] : [];
    const started = Date.now();
    const ran = await signalAt(site, step, "SIGTERM", ["backup", "full", "--fresh", "--json", ...config]);
    expect(ran.code).toBe(143);
    expect(Date.now() - started).toBeLessThan(10_000);
    await expectServerLetGo();
    expectWholeBackups();
    const [newest] = await site.json(["list", "--limit", "1"]);
    expect(newest.status).toBe("interrupted");
  });
});

describe("a server that goes away", () => {
  test.each(["files", "stream"])(
    "during a backup by %s fails it; when it is back, another one is made",
    async (reader) => {
      const config = reader === "stream" ? ["--config", streaming] : [];
      const running = await runUntil(site, "backup-started", ["backup", "full", "--json", ...config]);
      await server.restart("immediate");
      const ran = await resume(running);
      expect(ran.code).toBe(0);
      expectWholeBackups();
      const made = JSON.parse(ran.stdout);
      expect(made.status).toBe("completed");
      const [newest, before] = await site.json(["list", "--limit", "2"]);
      expect([newest.id, newest.status, before.status]).toEqual([made.id, "completed", "failed"]);
      expect(before.label).not.toBe(newest.label);
      expect(await site.json(["alerts"])).toEqual([]);
    },
  );

  test("before a backup begins is not waited for", async () => {
    const file = join(folder, "nowhere.yaml");
    await writeFile(file, readFileSync(site.configFile, "utf8").replace(/port=\d+/, "port=1"));
    const started = Date.now();
    const ran = await site.run("backup", "full", "--json", "--config", file);
    expect(JSON.parse(ran.stdout).error.code).toBe("postgres_unreachable");
    expect(Date.now() - started).toBeLessThan(10_000);
  });
});

describe("what a backup builds on", () => {
  test("must be whole in enough storages: else everything is stored anew, and it is said why", async () => {
    const newest = await site.json(["backup", "full"]);
    const place = newest.copies[0].path;
    await rm(join(site.folder, "one", place, "data"), { recursive: true });
    const ran = await site.run("backup", "full", "--json");
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain(
      "storing everything anew: the last backup is whole in 1 storages only, not in 2",
    );
    expect(JSON.parse(ran.stdout).parentId).toBeNull();
  });

  test("is brought along to a storage that joins later: its copy restores alone", async () => {
    const config = readFileSync(site.configFile, "utf8");
    const [line = ""] = /^ +- \{name: two, .*$/m.exec(config) ?? [];
    const third = line.replace("name: two", "name: three").replace("/two}", "/three}");
    await site.configure(config.replace(line, `${line}\n${third}`));
    try {
      await addRows();
      const made = await site.json(["backup", "full"]);
      expect(made.parentId).not.toBeNull();
      expect(made.copies.map(({ status }: { status: string }) => status)).toEqual([
        "stored",
        "stored",
        "stored",
      ]);
      expect((await site.json(["verify", made.id])).problems).toEqual([]);
      await site.configure(
        config
          .replace(/^ +- \{name: one, .*\n/m, "")
          .replace(line, third)
          .replace("minCopies: 2", ""),
      );
      await expectRestorable(made.id, await countRows(server.url()));
    } finally {
      await site.configure(config);
    }
  });

  test("is read from a storage, with a key, when this host has lost its notes", async () => {
    await rm(join(site.home, "chain"), { recursive: true });
    const next = await site.json(["backup", "full"]);
    expect(next.metadata.incremental).toBe(true);
  });

  test("is left alone when the notes are damaged", async () => {
    const chain = join(site.home, "chain", "test");
    for (const name of await readdir(chain)) await writeFile(join(chain, name), "nonsense");
    const ran = await site.run("backup", "full", "--json");
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain("storing everything anew: what was noted of the last backup is damaged");
    await expectRestorable("latest", await countRows(server.url()));
  });

  test("is left alone when it is older than rebaseEvery", async () => {
    await site.json(["backup", "full"]);
    const text = readFileSync(site.configFile, "utf8");
    await site.configure(`${text}rebaseEvery: 1ms\n`);
    const ran = await site.run("backup", "full", "--json");
    expect(ran.stderr).toContain("storing everything anew: rebaseEvery has passed");
    await site.configure(text);
  });
});
