import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { expectRefused } from "../support/refusal.js";
import { expectWholeReport, leftovers, openFolder, ownTemporary, statuses } from "../support/runbooks.js";
import { useShop } from "../support/shopSite.js";
import { rowsOf, SHOP_TENANTS, tenantId } from "../support/tenantShop.js";

const shop = useShop({ here: false, tenants: 3, rows: 40, settings: { wal_level: "replica" } });
const A = tenantId(1);
let folder: string;

beforeAll(async () => {
  folder = openFolder();
  ownTemporary(shop.site, folder);
  await shop.site.json(["backup", "wal"]);
  await shop.site.json(["backup", "full"]);
});

afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
});

const dr = (...args: string[]) => shop.site.json(["dr", "run", ...args]);
/** Without sequences: PostgreSQL logs them ahead of their use, so that a recovery may leave a gap. */
const content = async (database = "shop"): Promise<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(await contentOf(shop.server.url(database))).filter(
      ([name]) => name !== "database" && !name.endsWith("(S)"),
    ),
  );
/** A moment between what was done and what will be done. */
const momentNow = async (): Promise<string> => {
  const [row] = await query(shop.server.url("shop"), "select pg_sleep(0.3), clock_timestamp()::text as at");
  await query(shop.server.url("shop"), "select pg_sleep(0.3)");
  return (row?.at ?? "").replace(" ", "T").replace(/\+00$/, "Z");
};

test("every shipped runbook is right, by itself and at this site", async () => {
  const checked = await shop.site.json(["dr", "check"]);
  expect(checked.flatMap(({ problems }: { problems: unknown[] }) => problems)).toEqual([]);
  expect(checked.map(({ name }: { name: string }) => name)).toEqual([
    "catalog-lost",
    "database-corrupted",
    "key-rotation",
    "ransomware",
    "server-lost",
    "storage-lost",
    "tenant-lost",
  ]);
});

test("tenant-lost: the tenant's rows come back, in a drill only in the drill's own cluster", async () => {
  const before = await rowsOf(shop.sql, A);
  const at = await momentNow();
  await shop.sql(`delete from app.repair_photos where repair_id in (select id from app.repairs where tenant_id = '${A}');
    update app.items set price = 99 where tenant_id = '${A}'`);
  const damaged = await content();
  await shop.site.json(["backup", "wal"]);
  const drill = await dr("tenant-lost", "--drill", "--set", `tenant=${A}`, `to=${at}`);
  expectWholeReport(drill, ["archive", "agree", "tell"]);
  expect(await content()).toEqual(damaged);
  expect(leftovers(shop.site)).toEqual([]);

  await expectRefused(shop.site, ["dr", "run", "tenant-lost", "--set", `tenant=${A}`, "--confirm", A], {
    exit: 2,
    message: /^the runbook tenant-lost needs to \(the last moment at which all was well/,
    hint: /^give --set to=VALUE$/,
  });
  const late = ["tenant-lost", "--set", `tenant=${A}`, "to=latest", "--confirm", A];
  const inVain = await shop.site.json(["dr", "run", ...late], [4]);
  expect(inVain).toMatchObject({ status: "failed", error: { code: "verification_failed" } });
  expect(statuses(inVain)).toMatchObject({ plan: "failed", restore: "pending", tell: "pending" });
  await dr("--abort");
  expect(await content()).toEqual(damaged);

  const ran = await dr("tenant-lost", "--set", `tenant=${A}`, `to=${at}`, "--confirm", A);
  const report = expectWholeReport(ran);
  expect(report.steps.find(({ name }: { name: string }) => name === "agree").evidence[0].text).toBe(
    `${A}, by --confirm`,
  );
  expect(await rowsOf(shop.sql, A)).toEqual(before);
});

test("database-corrupted: the whole database goes back to the moment before", async () => {
  const before = await content();
  const at = await momentNow();
  await shop.sql("drop table app.repair_photos; update app.items set price = 1");
  const ran = await dr("database-corrupted", "--set", `to=${at}`, "--confirm", "shop");
  const report = expectWholeReport(ran);
  expect(await content()).toEqual(before);
  const told = report.steps.find(({ name }: { name: string }) => name === "tell").evidence[0];
  expect(told).toEqual({
    what: "noted: no channel is configured",
    text: `the database shop was taken back to ${at}: what was entered later has to be entered again, or fetched from the archive`,
  });
  const alerts = await shop.site.json(["alerts"]);
  expect(alerts.filter(({ fingerprint }: { fingerprint: string }) => fingerprint.startsWith("dr:"))).toEqual(
    [],
  );
});

test("catalog-lost: the list of backups comes back from the storages", async () => {
  const before = await shop.site.json(["list", "--kind", "full"]);
  for (const end of ["", "-wal", "-shm"]) rmSync(join(shop.site.home, `catalog.db${end}`), { force: true });
  expect(await shop.site.json(["list"])).toEqual([]);
  expectWholeReport(await dr("catalog-lost", "--yes"));
  const after = await shop.site.json(["list", "--kind", "full"]);
  const ids = (list: { id: string }[]): string[] => list.map(({ id }) => id);
  expect(ids(after)).toEqual(ids(before));
});

test("storage-lost: the storage is filled from the other one, and alone is enough to restore", async () => {
  const two = join(shop.site.folder, "two");
  rmSync(two, { recursive: true });
  const ran = await dr("storage-lost", "--yes", "--set", "storage=two", "good=one");
  expectWholeReport(ran);
  const expected = await content();
  await shop.site.json(["backup", "wal"]);
  rmSync(join(shop.site.folder, "one-away"), { recursive: true, force: true });
  const text = readFileSync(shop.site.configFile, "utf8");
  await shop.site.configure(text.replace(/^.*name: one,.*\n/m, ""));
  try {
    await shop.site.json([
      "restore",
      "--mode",
      "pitr",
      "--to",
      "latest",
      "--into-db",
      "proof",
      "--reason",
      "proof",
    ]);
    expect(await content("proof")).toEqual(expected);
  } finally {
    await shop.site.configure(text);
    await query(shop.server.url(), "drop database if exists proof with (force)");
  }
});

test("key-rotation: every backup opens with the new key alone", async () => {
  const keys = join(folder, "new-keys");
  const site = await shop.siteWith(SHOP_TENANTS);
  try {
    await site.json(["backup", "full", "--logical"]);
    const old = join(site.home, "keys");
    const text = readFileSync(site.configFile, "utf8");
    // the operator's part: it is done when the run asks for it, so the run stops there first
    const stopped = await site.start(["dr", "run", "key-rotation", "--set", `newKeys=${keys}`, "--json"]);
    expect(stopped.code).toBe(13);
    await site.json(["keys", "new", "--out", keys]);
    const pub = (file: string): string => readFileSync(file, "utf8").trim();
    const { signers } = await site.json(["keys", "list"]);
    const both = [
      "keys:",
      `  recipients: [${pub(join(keys, "recipient"))}]`,
      `  signing: {file: ${join(keys, "signing")}}`,
      `  signers: [${[...signers, pub(join(keys, "signer"))].join(", ")}]`,
      `  identity: [{file: ${join(keys, "identity")}}, {file: ${join(old, "identity")}}]`,
    ];
    await site.configure(`${text}${both.join("\n")}\n`);
    const made = join(folder, "made-by-run");
    const kit = join(folder, "kit.txt");
    expectWholeReport(
      await site.json(["dr", "run", "key-rotation", "--yes", "--set", `newKeys=${made}`, `kit=${kit}`]),
    );
    await site.configure(
      `${text}${both.slice(0, -1).join("\n")}\n  identity: {file: ${join(keys, "identity")}}\n`,
    );
    expect((await site.json(["keys", "test"])).opened).toEqual([
      { recipient: pub(join(keys, "recipient")), ok: true },
    ]);
    expect(readFileSync(kit, "utf8")).toContain(pub(join(keys, "recipient")));
    await site.json(["restore", "--into-db", "rotated", "--reason", "proof"]);
    expect(await content("rotated")).toEqual(await content());
  } finally {
    await query(shop.server.url(), "drop database if exists rotated with (force)");
    await site.remove();
  }
});
