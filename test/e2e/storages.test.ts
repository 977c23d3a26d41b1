import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { startFaultProxy } from "../support/faultProxy.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type SiteOptions, type TestSite } from "../support/site.js";
import { type Swift, startSwift } from "../support/swift.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

let server: TestPostgres;
let swift: Swift;
let b2: B2Server;
let content: Record<string, string>;
let round = 0;

beforeAll(async () => {
  [server, swift, b2] = await Promise.all([startPostgres(), startSwift(), startB2Server()]);
  await swift.createBucket("shop");
  b2.createBucket("shop");
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) || md5((g * 3)::text) as note from generate_series(1, 60000) g; alter table orders add primary key (id)",
  );
  content = await contentOf(server.url("shop"));
});

afterAll(async () => {
  await Promise.all([server?.stop(), swift?.stop(), b2?.stop()]);
});

beforeEach(() => {
  round++;
});

const local = (name: string, path: string): string => `- {name: ${name}, kind: local, path: ${path}}`;
const r2 = (endpoint: string, secret = "{env: S3_SECRET}"): string =>
  `- {name: r2, kind: s3, endpoint: "${endpoint}", bucket: shop, prefix: p${round}, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: ${secret}}`;
const b2Line = (key = "{env: B2_KEY}"): string =>
  `- {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: shop, prefix: p${round}, keyId: {env: B2_ID}, applicationKey: ${key}}`;

async function withSite(
  options: Omit<SiteOptions, "url"> & { url?: string },
  work: (site: TestSite) => Promise<void>,
): Promise<void> {
  const environment = { S3_SECRET: swift.secretAccessKey, B2_ID: b2.keyId, B2_KEY: b2.applicationKey };
  const site = await makeSite({ url: server.url("shop"), environment, ...options });
  try {
    await work(site);
  } finally {
    await site.remove();
  }
}

const BACKUP = ["backup", "full", "--logical"];
const copiesIn = (backup: { copies: { storage: string; status: string }[] }): Record<string, string> =>
  Object.fromEntries(backup.copies.map(({ storage, status }) => [storage, status]));

/** Backs up with one storage in trouble, cures it, backs up again: the gap is named, alerted, and filled. */
async function expectNamedAndHealed(
  site: TestSite,
  lost: string,
  cure: () => Promise<void>,
  alert: RegExp,
): Promise<void> {
  const others = Object.fromEntries(
    ["local", "r2", "b2"].filter((name) => name !== lost).map((name) => [name, "stored"]),
  );
  const partial = await site.json(BACKUP, [3]);
  expect(partial.status).toBe("completed");
  expect(copiesIn(partial)).toEqual({ ...others, [lost]: "missing" });
  expect((await site.json(["list"])).map(copiesIn)).toEqual([{ ...others, [lost]: "missing" }]);
  const alerts = await site.json(["alerts"]);
  expect(alerts).toHaveLength(1);
  expect(alerts[0]).toMatchObject({ type: "COPY_MISSING", status: "active", storage: lost });
  expect(alerts[0].message).toMatch(alert);

  await cure();
  await site.json(BACKUP);
  expect((await site.json(["list"])).map(copiesIn)).toEqual([
    { ...others, [lost]: "stored" },
    { ...others, [lost]: "stored" },
  ]);
  expect(await site.json(["alerts"])).toEqual([]);
  await site.json(["restore", partial.id, "--into-db", "healed", "--reason", "test"]);
  const { database: _, ...rows } = await contentOf(server.url("healed"));
  expect(rows).toEqual(Object.fromEntries(Object.entries(content).filter(([name]) => name !== "database")));
  await query(server.url(), "drop database healed");
}

describe("one of three storages", () => {
  test("that is down is named, alerted, and healed by the next run", async () => {
    const proxy = await startFaultProxy(swift.endpoint);
    proxy.behave({ kind: "refuse" });
    try {
      await withSite(
        { storages: (folder) => [local("local", join(folder, "local")), r2(proxy.endpoint), b2Line()] },
        (site) =>
          expectNamedAndHealed(
            site,
            "r2",
            async () => proxy.behave({ kind: "pass" }),
            /^storage r2 did not take its copy: /,
          ),
      );
    } finally {
      await proxy.stop();
    }
  });

  test.runIf(canMount)("whose disk is full is named, alerted, and healed by the next run", async () => {
    const disk = mountSmallDisk("1m");
    const filler = join(disk.path, "filler");
    writeFileSync(filler, Buffer.alloc(900 * 1024));
    try {
      await withSite({ storages: () => [local("local", disk.path), r2(swift.endpoint), b2Line()] }, (site) =>
        expectNamedAndHealed(
          site,
          "local",
          async () => {
            rmSync(filler);
            disk.grow("64m");
          },
          /^storage local did not take its copy: .*(full|space)/i,
        ),
      );
    } finally {
      disk[Symbol.dispose]();
    }
  });

  test("whose credential is refused is named at once, as critical", async () => {
    await withSite(
      {
        storages: (folder) => [
          local("local", join(folder, "local")),
          r2(swift.endpoint),
          b2Line("wrong-key-0123456789"),
        ],
      },
      async (site) => {
        const started = Date.now();
        const partial = await site.json(BACKUP, [3]);
        expect(Date.now() - started).toBeLessThan(15_000); // no blind retries
        expect(copiesIn(partial)).toEqual({ local: "stored", r2: "stored", b2: "missing" });
        expect(await site.json(["alerts"])).toMatchObject([
          { type: "COPY_MISSING", severity: "critical", storage: "b2" },
        ]);
      },
    );
  });

  test("that stalls in the middle of an upload is given up after a time without progress", async () => {
    const proxy = await startFaultProxy(swift.endpoint);
    try {
      await withSite(
        {
          storages: (folder) => [local("local", join(folder, "local")), r2(proxy.endpoint), b2Line()],
          environment: {
            S3_SECRET: swift.secretAccessKey,
            B2_ID: b2.keyId,
            B2_KEY: b2.applicationKey,
            JBACKUP_STORAGE_IDLE_MS: "6000",
          },
        },
        async (site) => {
          proxy.behave({ kind: "stall", afterBytes: 300_000, direction: "up" });
          const partial = await site.json(BACKUP, [3]);
          expect(copiesIn(partial)).toEqual({ local: "stored", r2: "missing", b2: "stored" });
        },
      );
    } finally {
      await proxy.stop();
    }
  });
});

describe("too few storages", () => {
  test("refuse the backup before PostgreSQL is touched, and leave nothing", async () => {
    await withSite(
      {
        url: "postgresql://nobody@127.0.0.1:1/none",
        storages: (folder) => [local("local", join(folder, "local")), r2("http://127.0.0.1:1")],
      },
      async (site) => {
        const ran = await site.run(...BACKUP);
        expect(ran.code).toBe(1);
        expect(ran.stderr).toMatch(
          /Error: only 1 of the 2 copies that minCopies asks for can be stored \(r2: /,
        );
        expect(ran.stderr).toContain("Try: jbackup storages check shows what is wrong with each storage\n");
        expect(ran.stderr).not.toContain("PostgreSQL");
      },
    );
  });

  test("another site's folder is refused, and nothing is written anywhere", async () => {
    await withSite({ name: "first" }, async (first) => {
      await first.json(BACKUP);
      const before = readdirSync(join(first.folder, "local"), { recursive: true });
      await withSite(
        {
          name: "second",
          storages: (folder) => [
            local("own", join(folder, "own")),
            local("theirs", join(first.folder, "local")),
          ],
        },
        async (second) => {
          const ran = await second.run(...BACKUP);
          expect(ran.code).toBe(10);
          expect(ran.stderr).toContain(
            `storage theirs at ${join(first.folder, "local")} belongs to site first, not to second`,
          );
          expect(readdirSync(second.folder)).not.toContain("own");
        },
      );
      expect(readdirSync(join(first.folder, "local"), { recursive: true })).toEqual(before);
    });
  });
});

describe("a damaged copy", () => {
  const DAMAGE: [string, (folder: string) => void, RegExp, string][] = [
    [
      "a flipped byte",
      (folder) => flip(join(folder, "data/000001.jbk")),
      /is damaged: its SHA-256 is not the one in the manifest/,
      "INTEGRITY_FAILURE",
    ],
    [
      "a truncated object",
      (folder) => truncateSync(join(folder, "data/000001.jbk"), 1000),
      /has 1000 bytes instead of/,
      "INTEGRITY_FAILURE",
    ],
    [
      "a missing object",
      (folder) => rmSync(join(folder, "data/000001.jbk")),
      /trying the next storage/,
      "INTEGRITY_FAILURE",
    ],
    ["an edited manifest", (folder) => edit(join(folder, "manifest.json")), /cannot be believed/, "SECURITY"],
  ];

  test.each(DAMAGE)(
    "with %s costs nothing while another storage has a good one",
    async (_, damage, warning, alert) => {
      await withSite(
        { storages: (folder) => [local("one", join(folder, "one")), local("two", join(folder, "two"))] },
        async (site) => {
          const backup = await site.json(BACKUP);
          damage(join(site.folder, "one", backup.copies[0].path));
          const ran = await site.run("restore", "--into-db", "good", "--reason", "test");
          expect(ran.stderr).toMatch(warning);
          expect(ran.code).toBe(0);
          const { database: _, ...rows } = await contentOf(server.url("good"));
          expect(rows).toEqual(
            Object.fromEntries(Object.entries(content).filter(([name]) => name !== "database")),
          );
          await query(server.url(), "drop database good");
          expect((await site.json(["alerts"])).map(({ type }: { type: string }) => type)).toContain(alert);
        },
      );
    },
  );

  test("with no good one anywhere is refused, and the target stays as it is", async () => {
    await withSite({}, async (site) => {
      const backup = await site.json(BACKUP);
      flip(join(site.folder, "local", backup.copies[0].path, "data/000001.jbk"));
      const ran = await site.run("restore", "--reason", "test", "--confirm", "shop");
      expect(ran.code).toBe(4);
      expect(ran.stderr).toMatch(/Error: no storage has a good copy of .*000001\.jbk/);
      expect(await contentOf(server.url("shop"))).toEqual(content);
    });
  });
});

function flip(file: string): void {
  const bytes = readFileSync(file);
  bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

function edit(file: string): void {
  const text = readFileSync(file, "utf8");
  const edited = text.replace(/"kind": ?"full"/, '"kind":"tenant"');
  expect(edited).not.toBe(text);
  writeFileSync(file, edited);
}
