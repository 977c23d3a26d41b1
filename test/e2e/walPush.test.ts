import { execFileSync } from "node:child_process";
import {
  appendFile,
  chmod,
  chown,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { canServerUserRun } from "../support/serverUser.js";
import { BIN, makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;
let folder: string;
let owner: { uid: number; gid: number };

const word = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const jbackup = (...args: string[]): string =>
  [
    "env",
    `JBACKUP_HOME=${word(site.home)}`,
    `JBACKUP_CONFIG=${word(site.configFile)}`,
    word(process.execPath),
    word(BIN),
    ...args,
  ].join(" ");
const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

const archiveBy = (command: string) =>
  query(server.url(), `alter system set archive_command = ${literal(command)}`, "select pg_reload_conf()");

/** Segments of 1 MB, each with rows of its own. */
async function writeSegments(count: number): Promise<void> {
  for (let nth = 0; nth < count; nth++)
    await query(
      server.url(),
      "insert into notes (body) select repeat(md5(random()::text), 20) from generate_series(1, 400)",
      "select pg_switch_wal()",
    );
}

const walFolder = (): string => join(server.dataDirectory, "pg_wal");
const waiting = async (): Promise<string[]> =>
  (await readdir(join(walFolder(), "archive_status"))).filter((name) => name.endsWith(".ready"));

async function untilArchived(): Promise<number> {
  const began = performance.now();
  while ((await waiting()).length > 0) {
    if (performance.now() - began > 120_000) throw new Error(`not archived: ${(await waiting()).join(" ")}`);
    await delay(20);
  }
  return performance.now() - began;
}

const finished = async (): Promise<string[]> =>
  (await readdir(join(walFolder(), "archive_status")))
    .filter((name) => /^[0-9A-F]{24}\.done$/.test(name))
    .map((name) => name.slice(0, 24))
    .sort();

const spooled = async (): Promise<string[]> =>
  (await readdir(join(site.home, "wal-fetched"), { recursive: true })).filter((path) =>
    /[0-9A-F]{24}/.test(path),
  );

const rows = async (url: string): Promise<string> =>
  (await query(url, "select count(*) || ' ' || md5(string_agg(body, '' order by id)) as sum from notes"))[0]
    ?.sum ?? "";

beforeAll(async () => {
  server = await startPostgres({
    settings: {
      archive_mode: "on",
      archive_command: "false",
      wal_level: "replica",
      wal_keep_size: "'400MB'",
      full_page_writes: "on",
    },
    initdb: ["--wal-segsize=1"],
  });
  const { uid, gid } = await stat(server.dataDirectory);
  owner = { uid, gid };
  folder = await mkdtemp(join(tmpdir(), "jbackup-push-"));
  await chmod(folder, 0o700);
  await chown(folder, uid, gid);
  site = await makeSite({
    url: server.url(),
    owner: process.getuid?.() === 0 ? owner : undefined,
    storages: (place) =>
      ["one", "two", "three"].map((name) => `- {name: ${name}, kind: local, path: ${join(place, name)}}`),
    more: ["minCopies: 2"],
  });
  await query(server.url(), "create table notes (id serial primary key, body text)");
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const canRun = await canServerUserRun();

describe.skipIf(!canRun)("archive_command of a real server", () => {
  test("archives a heap of segments that are ready at once, many of them by each call", async () => {
    await writeSegments(40);
    const heap = (await waiting()).length;
    expect(heap).toBeGreaterThanOrEqual(40);
    await archiveBy(jbackup("wal", "push", "%p"));
    const took = await untilArchived();
    console.info(`${heap} segments in ${Math.round(took)} ms`);
    const [archiver] = await query(
      server.url(),
      "select archived_count::text, failed_count::text, last_archived_wal from pg_stat_archiver",
    );
    expect(Number(archiver?.archived_count)).toBeGreaterThanOrEqual(heap);
  });

  test("every segment comes back byte for byte", async () => {
    const names = await finished();
    expect(names.length).toBeGreaterThanOrEqual(40);
    const took: number[] = [];
    for (const name of names) {
      const began = performance.now();
      const ran = await site.run("wal", "fetch", name, join(folder, "fetched"));
      took.push(performance.now() - began);
      expect([name, ran.code, ran.stderr]).toEqual([name, 0, ""]);
      expect((await readFile(join(folder, "fetched"))).equals(await readFile(join(walFolder(), name)))).toBe(
        true,
      );
    }
    console.info(`a fetch on its own: ${Math.round(took.sort((a, b) => a - b)[took.length >> 1] ?? 0)} ms`);
  });

  test("goes on beside backup wal, and with a storage away, which is made up for", async () => {
    await rename(join(site.folder, "three"), join(site.folder, "three-gone"));
    await writeFile(join(site.folder, "three"), "no folder");
    const [, passed] = await Promise.all([writeSegments(6), site.start(["backup", "wal", "--json"])]);
    expect([0, 3]).toContain(passed.code);
    await untilArchived();
    expect(await site.json(["alerts"])).toContainEqual(
      expect.objectContaining({ type: "COPY_MISSING", storage: "three" }),
    );
    await rm(join(site.folder, "three"));
    await rename(join(site.folder, "three-gone"), join(site.folder, "three"));
    const stored = async (name: string): Promise<string[]> =>
      (await readdir(join(site.folder, name), { recursive: true }))
        .filter((path) => /[0-9A-F]{24}\.jbk$/.test(path))
        .sort();
    for (let tries = 0; tries < 8 && (await stored("three")).length < (await stored("one")).length; tries++) {
      await writeSegments(1);
      await untilArchived();
    }
    expect(await stored("three")).toEqual(await stored("one"));
  });

  test("keeps everything while the storages are down, and catches up", async () => {
    for (const name of ["one", "two"])
      await rename(join(site.folder, name), join(site.folder, `${name}-gone`));
    for (const name of ["one", "two"]) await writeFile(join(site.folder, name), "no folder");
    await writeSegments(3);
    await delay(3000);
    expect((await waiting()).length).toBeGreaterThanOrEqual(3);
    const shown = await site.run("wal", "status");
    expect(shown.stdout).toMatch(
      /Note: archive_command fails, at \d{4}-\d\d-\d\dT[\d:.]+Z for [0-9A-F]{24}: /,
    );
    for (const name of ["one", "two"]) {
      await rm(join(site.folder, name));
      await rename(join(site.folder, `${name}-gone`), join(site.folder, name));
    }
    await archiveBy(`${jbackup("wal", "push", "%p")} `); // a reload wakes the archiver up
    await query(server.url(), "select pg_switch_wal()");
    await untilArchived();
  });
});

describe.skipIf(!canRun)("restore_command of a real standby", () => {
  test("replays all that is archived, ahead of being asked, and leaves nothing in the spool", async () => {
    const data = join(folder, "standby");
    const program = (name: string, args: string[]) =>
      execFileSync(join(server.binDirectory, name), args, {
        stdio: "pipe",
        cwd: "/",
        ...(process.getuid?.() === 0 ? owner : {}),
      });
    program("pg_basebackup", ["-D", data, "-c", "fast", "-X", "none", "--no-manifest", "-d", server.url()]);
    await writeSegments(40);
    const expected = await rows(server.url());
    await query(server.url(), "select pg_switch_wal()");
    await untilArchived();
    await writeFile(join(data, "standby.signal"), "");
    await chown(join(data, "standby.signal"), owner.uid, owner.gid);
    await appendFile(
      join(data, "postgresql.auto.conf"),
      [
        `unix_socket_directories = '${folder}'`,
        "archive_mode = 'off'",
        "hot_standby = on",
        `restore_command = ${literal(jbackup("wal", "fetch", "%f", "%p"))}`,
        "",
      ].join("\n"),
    );
    const began = performance.now();
    program("pg_ctl", ["-D", data, "-w", "-l", join(folder, "log"), "start"]);
    const url = `postgresql://postgres@/postgres?host=${encodeURIComponent(folder)}&port=${server.port}`;
    try {
      for (let waited = 0; waited < 600 && (await rows(url)) !== expected; waited++) await delay(50);
      console.info(`about 40 segments replayed in ${Math.round(performance.now() - began)} ms`);
      expect(await rows(url)).toBe(expected);
      const log = await readFile(join(folder, "log"), "utf8");
      expect(log.match(/restored log file/g)?.length).toBeGreaterThanOrEqual(40);
      expect(log).not.toContain("FATAL");
      for (let waited = 0; waited < 200 && (await spooled()).length > 0; waited++) await delay(50);
      expect(await spooled()).toEqual([]);
    } finally {
      program("pg_ctl", ["-D", data, "-w", "-m", "fast", "stop"]);
    }
  });
});

describe.skipIf(!canRun)("wal status", () => {
  test("needs neither base nor slot, and tells how the archiver does", async () => {
    const status = await site.json(["wal", "status"]);
    expect(status).toMatchObject({
      window: null,
      holes: [],
      server: { slot: expect.anything(), archiver: { failures: expect.any(Number) } },
    });
    expect(status.segments).toBeGreaterThan(80);
    expect(status.warnings).toEqual([]);
  });

  test("alerts while the slot fills what it may keep, never drops it, and says when there is room again", async () => {
    await site.json(["backup", "wal"]);
    await query(server.url(), "alter system set max_slot_wal_keep_size = '16MB'", "select pg_reload_conf()");
    const alert = async () =>
      (await site.json(["alerts"])).find(
        ({ fingerprint }: { fingerprint: string }) => fingerprint === "pg_wal_full",
      );
    await writeSegments(11);
    const filling = await site.json(["wal", "status"]);
    expect(filling.server.pgWal.filledPercent).toBeGreaterThanOrEqual(60);
    expect(await alert()).toMatchObject({ type: "STORAGE_CAPACITY", severity: "warning", status: "active" });
    await writeSegments(3);
    const full = await site.json(["wal", "status"]);
    expect(full.server).toMatchObject({ slot: { name: filling.server.slot.name } });
    expect(full.server.pgWal.filledPercent).toBeGreaterThanOrEqual(80);
    expect(await alert()).toMatchObject({ severity: "critical" });
    await site.json(["backup", "wal"]);
    expect((await site.json(["wal", "status"])).server.pgWal.filledPercent).toBeLessThan(60);
    expect((await alert())?.status ?? "resolved").toBe("resolved");
  });
});
