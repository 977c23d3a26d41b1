import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { filesBelow } from "../support/files.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { type S3Objects, s3Objects } from "../support/s3Objects.js";
import { makeSite, type SiteOptions, type TestSite } from "../support/site.js";
import { type Swift, startSwift } from "../support/swift.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

let server: TestPostgres;
let swift: Swift;
let b2: B2Server;
let bucket: S3Objects;
let rows: Record<string, string>;
let round = 0;

const rowsOf = async (database: string): Promise<Record<string, string>> => {
  const { database: _, ...relations } = await contentOf(server.url(database));
  return relations;
};

beforeAll(async () => {
  [server, swift, b2] = await Promise.all([startPostgres(), startSwift(), startB2Server()]);
  await swift.createBucket("copies");
  b2.createBucket("copies");
  bucket = s3Objects(swift, "copies");
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) || md5((g * 3)::text) as note from generate_series(1, 40000) g; alter table orders add primary key (id)",
  );
  rows = await rowsOf("shop");
});

afterAll(async () => {
  bucket?.close();
  await Promise.all([server?.stop(), swift?.stop(), b2?.stop()]);
});

beforeEach(() => {
  round++;
  b2.faults.clear();
});

const local = (name: string, path: string): string => `- {name: ${name}, kind: local, path: ${path}}`;
const r2 = (): string =>
  `- {name: r2, kind: s3, endpoint: "${swift.endpoint}", bucket: copies, prefix: c${round}, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: {env: S3_SECRET}}`;
const b2Line = (): string =>
  `- {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: copies, prefix: c${round}, keyId: {env: B2_ID}, applicationKey: {env: B2_KEY}}`;
const BACKUP = ["backup", "full", "--logical"];

async function withSite(
  options: Omit<SiteOptions, "url">,
  work: (site: TestSite) => Promise<void>,
): Promise<void> {
  const environment = { S3_SECRET: swift.secretAccessKey, B2_ID: b2.keyId, B2_KEY: b2.applicationKey };
  const site = await makeSite({ here: true, url: server.url("shop"), environment, ...options });
  try {
    await work(site);
  } finally {
    await site.remove();
  }
}

const alertsOf = async (site: TestSite): Promise<string[]> =>
  (await site.json(["alerts"])).map(
    (alert: { type: string; storage: string }) => `${alert.type} ${alert.storage}`,
  );

async function expectRestorable(site: TestSite, reference = "latest"): Promise<string> {
  const ran = await site.run("restore", reference, "--into-db", "copy", "--reason", "test");
  expect(ran.code, ran.stderr).toBe(0);
  expect(await rowsOf("copy")).toEqual(rows);
  await query(server.url(), "drop database copy");
  return ran.stderr;
}

const flipped = (bytes: Buffer): Buffer => {
  const middle = Math.floor(bytes.length / 2);
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  return bytes;
};

describe("a copy that went bad far away", () => {
  const DAMAGE: Record<string, (name: string, folder: string) => Promise<void>> = {
    "a flipped byte": async (name, folder) => {
      const object = `c${round}/${folder}/data/000001.jbk`;
      if (name === "r2") await bucket.write(object, flipped(await bucket.read(object)));
      else
        writeFileSync(
          b2.contentPath("copies", object),
          flipped(readFileSync(b2.contentPath("copies", object))),
        );
    },
    "a lost object": async (name, folder) => {
      const object = `c${round}/${folder}/contents.jbk`;
      if (name === "r2") await bucket.remove(object);
      else b2.lose("copies", object);
    },
    "a cut object": async (name, folder) => {
      const object = `c${round}/${folder}/data/000001.jbk`;
      if (name === "r2") await bucket.write(object, (await bucket.read(object)).subarray(0, 1000));
      else
        writeFileSync(
          b2.contentPath("copies", object),
          readFileSync(b2.contentPath("copies", object)).subarray(0, 1000),
        );
    },
  };

  test.each(["r2", "b2"].flatMap((name) => Object.keys(DAMAGE).map((damage) => [name, damage] as const)))(
    "in %s with %s is named, alerted, and made up for by the other",
    async (name, damage) => {
      const other = name === "r2" ? b2Line() : r2();
      const bad = name === "r2" ? r2() : b2Line();
      // the bad one stands first, so that it is asked first
      await withSite({ storages: () => [bad, other] }, async (site) => {
        const backup = await site.json(BACKUP);
        await DAMAGE[damage]?.(name, backup.copies[0].path);
        expect(await expectRestorable(site)).toMatch(
          new RegExp(`^Warning: storage ${name}: .*; trying the next storage$`, "m"),
        );
        expect(await alertsOf(site)).toEqual([`INTEGRITY_FAILURE ${name}`]);
      });
    },
  );

  test("with its manifest lost is named, alerted, and made up for by the other", async () => {
    await withSite({ storages: () => [r2(), b2Line()] }, async (site) => {
      const backup = await site.json(BACKUP);
      await bucket.remove(`c${round}/${backup.copies[0].path}/manifest.json`);
      expect(await expectRestorable(site)).toContain("storage r2");
      expect(await alertsOf(site)).toEqual(["INTEGRITY_FAILURE r2"]);
    });
  });

  test("everywhere still shows what is known of the backup", async () => {
    await withSite({ storages: () => [r2()] }, async (site) => {
      const backup = await site.json(BACKUP);
      for (const name of await bucket.names(`c${round}/backups/`)) await bucket.remove(name);
      const shown = await site.json(["show", backup.id]);
      expect(shown).toMatchObject({ id: backup.id, contents: null, tables: null });
    });
  });
});

describe("a copy that is known to be missing", () => {
  test.runIf(canMount)("raises no false alarm when another copy is restored from", async () => {
    const disk = mountSmallDisk("512k");
    try {
      await withSite({ storages: () => [local("near", disk.path), r2(), b2Line()] }, async (site) => {
        const partial = await site.json(BACKUP, [3]);
        expect(partial.copies.map(({ status }: { status: string }) => status)).toEqual([
          "missing",
          "stored",
          "stored",
        ]);
        expect(await alertsOf(site)).toEqual(["COPY_MISSING near"]);
        await expectRestorable(site);
        expect(await alertsOf(site)).toEqual(["COPY_MISSING near"]);
      });
    } finally {
      disk[Symbol.dispose]();
    }
  });

  test("because its storage is new raises no false alarm either", async () => {
    await withSite({ storages: () => [r2()] }, async (site) => {
      await site.json(BACKUP);
      const config = readFileSync(site.configFile, "utf8");
      await site.configure(
        config.replace("storages:\n", `storages:\n  ${local("new", join(site.folder, "new"))}\n`),
      );
      await expectRestorable(site);
      expect(await alertsOf(site)).toEqual([]);
      // without the catalog every storage is asked what it holds; one that cannot tell must not hide the others
      for (const file of filesBelow(site.home).filter((path) => path.includes("catalog.db"))) rmSync(file);
      expect(await expectRestorable(site)).toContain("Warning: what storage new holds is not known: ");
      expect(await alertsOf(site)).toEqual([]);
    });
  });
});

describe("too many storages lost on the way", () => {
  test.runIf(canMount)("fail the backup: exit 1, an alert, and no backup to be seen anywhere", async () => {
    const disk = mountSmallDisk("512k");
    try {
      await withSite({ storages: () => [local("near", disk.path), r2(), b2Line()] }, async (site) => {
        b2.faults.next("upload", { kind: "refuse", status: 403, code: "cap_exceeded" }, 50);
        const ran = await site.run(...BACKUP);
        expect(ran.code).toBe(1);
        expect(ran.stderr).toMatch(/Error: only 1 of the 2 copies that minCopies asks for /);
        expect(ran.stderr).toMatch(/near: .*(full|space)/i);
        expect(ran.stderr).toMatch(/b2: .*cap/i);
        const listed = await site.json(["list"]);
        expect(listed).toMatchObject([{ status: "failed", copies: [] }]);
        expect((await bucket.names(`c${round}/`)).filter((name) => name.includes("backups/"))).toEqual([]);
        expect(filesBelow(disk.path).filter((file) => file.includes("backups/"))).toEqual([]);
        expect(await alertsOf(site)).toContain("BACKUP_FAILURE null");
        const restoring = await site.run("restore", "--into-db", "copy", "--reason", "test");
        expect(restoring.stderr).toContain("Error: there is no backup yet\n");
        expect(restoring.code).toBe(10);

        b2.faults.clear();
        disk.grow("64m");
        await site.json(BACKUP);
        await expectRestorable(site);
        expect(await alertsOf(site)).toEqual([]);
      });
    } finally {
      disk[Symbol.dispose]();
    }
  });
});

describe("another site's place", () => {
  test.each(["r2", "b2"])("in %s is refused, and nothing is written anywhere", async (name) => {
    const line = name === "r2" ? r2 : b2Line;
    await withSite({ name: "first", storages: () => [line()] }, async (first) => {
      await first.json(BACKUP);
      const before = [await bucket.names(`c${round}/`), b2.calls.filter((call) => call === "upload").length];
      await withSite(
        { name: "second", storages: (folder) => [local("own", join(folder, "own")), line()] },
        async (second) => {
          const ran = await second.run(...BACKUP);
          expect(ran.stderr).toMatch(
            new RegExp(
              `Error: storage ${name} at .* belongs to site first, not to second\\nTry: give this site a bucket, prefix or folder of its own in jbackup.yaml\\n`,
            ),
          );
          expect(ran.code).toBe(10);
          expect(filesBelow(join(second.folder, "own"))).toEqual([]);
        },
      );
      expect([await bucket.names(`c${round}/`), b2.calls.filter((call) => call === "upload").length]).toEqual(
        before,
      );
      await expectRestorable(first);
    });
  });
});

describe("a local storage that is read-only", () => {
  test.runIf(canMount)("gives its backups, and takes none", async () => {
    const disk = mountSmallDisk("64m");
    try {
      await withSite({ storages: () => [local("near", disk.path), r2(), b2Line()] }, async (site) => {
        await site.json(BACKUP);
        disk.makeReadOnly();
        const partial = await site.json(BACKUP, [3]);
        expect(partial.copies[0]).toMatchObject({ storage: "near", status: "missing", bytes: 0 });
        await expectRestorable(site);
        const [older] = (await site.json(["list"])).slice(-1);
        await expectRestorable(site, older.id);
        expect(await alertsOf(site)).toEqual(["COPY_MISSING near"]);
      });
    } finally {
      disk[Symbol.dispose]();
    }
  });
});
